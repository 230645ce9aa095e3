//! Receives the signals that `sys::signal` has in its table, from before recovery to the end.
//!
//! An end that is asked for during recovery is immediate: until [`Signals::recovered`] nothing on
//! the disk was changed, so there is nothing to finish. A request to end that comes while the
//! server is put together is remembered; one that comes to a running server drains the server.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use crossbeam_channel::Receiver;

use crate::base::{Instant, Ration};
use crate::sys::cpu;
use crate::sys::signal::{self, Meaning, Row};

use super::boot::drain;
use super::links::Mailbox;
use super::log_pipe;
use super::state_report;

/// What a running server is reached by.
#[derive(Clone)]
pub struct Running {
    /// The workers' queues.
    pub mailboxes: Vec<Mailbox>,
    /// Hears when a drain has nothing left to write.
    pub settled: Receiver<()>,
    /// Where each stage runs, worker by worker.
    pub stages: Vec<String>,
}

enum Stage {
    /// Nothing is changed yet.
    Recovering,
    /// The end that was asked for meanwhile.
    Starting(Option<&'static Row>),
    Running(Running),
    /// It was asked to end.
    Ending(Running),
}

struct State {
    stage: Stage,
    began: Instant,
    nothing: Ration,
}

/// The receiving thread's other end.
#[derive(Clone)]
pub struct Signals(Arc<Mutex<State>>);

impl Signals {
    /// Starts to receive. Call it before any other thread is started.
    ///
    /// # Errors
    /// Signals cannot be blocked, or the thread cannot be started.
    pub fn start() -> io::Result<Signals> {
        signal::take()?;
        let began = cpu::now().mono;
        let state = State { stage: Stage::Recovering, began, nothing: Ration::default() };
        let signals = Signals(Arc::new(Mutex::new(state)));
        let receiver = signals.clone();
        Builder::new().name("signals".to_owned()).spawn(move || receiver.receive())?;
        Ok(signals)
    }

    /// Recovery has succeeded: from here on the start changes files.
    pub fn recovered(&self) {
        self.with(|state| state.stage = Stage::Starting(None));
    }

    /// The server runs.
    pub fn running(&self, running: Running) {
        let asked = self.with(|state| {
            let before = std::mem::replace(&mut state.stage, Stage::Running(running));
            if let Stage::Starting(asked) = before { asked } else { None }
        });
        if let Some(row) = asked {
            self.end(row);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn receive(&self) {
        loop {
            match signal::wait() {
                Err(e) => return log::error!("signals are not received any more: {e}"),
                Ok(row) => match row.meaning {
                    Meaning::End => self.end(row),
                    Meaning::Report => log::info!("{}: {}", row.name, self.report()),
                    Meaning::Nothing => self.with(|state| {
                        if let Some(more) = state.nothing.take(cpu::now().mono) {
                            let (name, why) = (row.name, row.why);
                            log::info!("{name} does nothing here ({why}){more}");
                        }
                    }),
                    Meaning::Error | Meaning::Default => {}
                },
            }
        }
    }

    fn end(&self, row: &'static Row) {
        let name = row.name;
        let running = self.with(|state| match &mut state.stage {
            Stage::Recovering => {
                log::warn!(
                    "{name} during recovery: ended before it was complete; no transaction and no \
                     snapshot was changed"
                );
                log_pipe::flush();
                // With the lock held, so that the start cannot go on to change anything.
                signal::end_by(row)
            }
            Stage::Starting(asked) => {
                *asked = asked.or(Some(row));
                None
            }
            Stage::Running(running) => {
                let running = running.clone();
                state.stage = Stage::Ending(running.clone());
                Some(running)
            }
            Stage::Ending(_) => None,
        });
        let Some(running) = running else { return };
        log::info!("{name}: finishing what is under way, then ending");
        let Running { mailboxes, settled, .. } = running;
        // On a thread of its own: an end that hangs can still be asked for its state.
        let drained =
            Builder::new().name("drain".to_owned()).spawn(move || drain(&mailboxes, &settled));
        if let Err(e) = drained {
            log::error!("cannot end cleanly, as no thread can be started: {e}");
            log_pipe::flush();
            signal::end_by(row);
        }
    }

    fn report(&self) -> String {
        let (running, phase, began) = self.with(|state| match &state.stage {
            Stage::Recovering => (None, "recovering", state.began),
            Stage::Starting(_) => (None, "recovered, starting to serve", state.began),
            Stage::Running(running) => (Some(running.clone()), "serving", state.began),
            Stage::Ending(running) => (Some(running.clone()), "ending", state.began),
        });
        let up = cpu::now().mono.since(began);
        let mut text = format!("state of this server: {phase}, up {:.3} s", up.as_secs_f64());
        if let Some(running) = running {
            for line in state_report::gather(&running) {
                let _ = write!(text, "\n  {line}");
            }
        }
        text
    }
}
