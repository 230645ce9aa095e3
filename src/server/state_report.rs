//! What a server says of itself when it is asked with SIGQUIT: what a thread dump is to a JVM.
//! Every worker speaks for its own stages; one that does not answer is the finding.

use std::time::Duration;

use crossbeam_channel::{bounded, never};

use super::host;
use super::links::Message;
use super::signals::Running;

/// How long the workers may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The process, then every worker after the name of its stages, a line for each.
pub fn gather(running: &Running) -> Vec<String> {
    let asked: Vec<_> = running
        .mailboxes
        .iter()
        .map(|mailbox| {
            let queued = mailbox.queued();
            let (answer, state) = bounded(1);
            let answer = Message::Describe(Box::new(move |text| drop(answer.try_send(text))));
            match mailbox.send(answer) {
                Ok(()) => (queued, state, "does not answer: one turn takes a second or more"),
                Err(_) => (queued, never(), "cannot be asked: its queue is full"),
            }
        })
        .collect();
    let deadline = std::time::Instant::now() + PATIENCE;
    let workers = running.stages.iter().zip(asked).map(|(stages, (queued, state, silence))| {
        let state = state.recv_deadline(deadline).unwrap_or_else(|_| silence.to_owned());
        format!("{stages}: {state}; {queued} messages in its queue")
    });
    let process = format!(
        "process {}: {} files open of {}, {} MiB of memory",
        std::process::id(),
        host::open_files(),
        host::open_files_max(),
        host::memory().2 >> 20
    );
    std::iter::once(process).chain(workers).collect()
}
