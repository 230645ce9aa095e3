//! Looks once a second whether the directories and the segment that are open still have their
//! names, and ends the server if not. On a thread of its own: a look-up on a network file system
//! can take long, and no request may wait for it.

use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::disk::{Absence, DataDir};

use super::worker::Ended;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// The thread that looks. It ends with this.
pub struct PresenceWatch {
    dir: Arc<DataDir>,
    /// Disconnected to end the thread.
    _stop: Sender<()>,
    _thread: JoinHandle<()>,
}

impl PresenceWatch {
    /// Starts to look. `ended` needs room for one message.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(dir: Arc<DataDir>, ended: Sender<Ended>) -> io::Result<PresenceWatch> {
        let (stop, stopped) = bounded::<()>(1);
        let watched = Arc::clone(&dir);
        let watch = move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                if let Some(absence) = watched.absence().filter(Absence::is_certain) {
                    // From that look on nothing is acknowledged.
                    let _ = ended.try_send(Ended::Fatal(format!("this server stops: {absence}")));
                    return;
                }
            }
        };
        let thread = Builder::new().name("presence".to_owned()).spawn(watch)?;
        Ok(PresenceWatch { dir, _stop: stop, _thread: thread })
    }

    /// What has lost its name, by a fresh look.
    pub fn look(&self) -> Option<Absence> {
        self.dir.absence()
    }
}
