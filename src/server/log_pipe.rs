//! Where the log goes: stderr, through a queue and a thread of its own once a server runs, because
//! the reader of stderr may stall, and no event loop may wait for a reader. Lines that do not fit
//! the queue are counted, and the count is written as soon as there is room.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that wait for the reader of stderr: with 200 bytes each, less than a megabyte.
const QUEUE: usize = 4096;

/// How long an end waits for the reader of stderr to take the last lines.
const LAST_LINES: Duration = Duration::from_millis(500);

enum Line {
    Text(Vec<u8>),
    /// Answered when everything before is written.
    Flush(Sender<()>),
}

static QUEUED: OnceLock<Sender<Line>> = OnceLock::new();

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The log's target. Writes straight to stderr until [`start`].
#[derive(Clone, Copy, Debug)]
pub struct LogPipe;

impl Write for LogPipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match QUEUED.get() {
            None => io::stderr().write_all(line)?,
            Some(queue) => offer(queue, &DROPPED, line),
        }
        Ok(line.len())
    }

    /// Waiting for the reader is what [`flush`] is for.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Queues a line, or counts it.
fn offer(queue: &Sender<Line>, dropped: &AtomicU64, line: &[u8]) {
    if queue.try_send(Line::Text(line.to_vec())).is_err() {
        dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// From now on a thread that logs never waits for the reader of stderr. Call it with the signals
/// blocked, so that the thread started here receives none.
///
/// # Errors
/// The thread cannot be started.
pub fn start() -> io::Result<()> {
    if QUEUED.get().is_some() {
        return Ok(());
    }
    let (queue, lines) = bounded(QUEUE);
    let write = move || write_lines(&lines, &DROPPED, &mut io::stderr());
    Builder::new().name("log lines".to_owned()).spawn(write)?;
    // Another one that was quicker has a thread that ends with its queue.
    let _ = QUEUED.set(queue);
    Ok(())
}

/// Has everything written that was logged, if the reader of stderr takes it within a moment. Call
/// it before the process ends.
pub fn flush() {
    if let Some(queue) = QUEUED.get() {
        let (done, written) = bounded(1);
        if queue.send_timeout(Line::Flush(done), LAST_LINES).is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

fn write_lines(lines: &Receiver<Line>, dropped: &AtomicU64, out: &mut impl Write) {
    while let Ok(line) = lines.recv() {
        match line {
            // Without a reader there is nobody to tell that there is none.
            Line::Text(text) => drop(out.write_all(&text)),
            Line::Flush(done) => {
                tell_dropped(dropped, out);
                let _ = done.send(());
            }
        }
        if lines.is_empty() {
            tell_dropped(dropped, out);
        }
    }
}

fn tell_dropped(dropped: &AtomicU64, out: &mut impl Write) {
    let count = dropped.swap(0, Ordering::Relaxed);
    if count > 0 {
        let _ = writeln!(
            out,
            "[ringkeeper: {count} lines of the log are missing here: {QUEUE} waited already, \
             because nothing read this server's stderr fast enough]"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_stalls_holds_nobody_up_and_learns_what_it_missed() {
        let (queue, lines) = bounded(2);
        let dropped = AtomicU64::new(0);
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            offer(&queue, &dropped, line.as_bytes());
        }
        drop(queue);
        let mut out = Vec::new();
        write_lines(&lines, &dropped, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("one\ntwo\n[ringkeeper: 2 lines of the log are missing"), "{out}");
        assert_eq!(out.lines().count(), 3);
    }

    #[test]
    fn what_was_logged_before_a_flush_is_written_after_it() {
        let (queue, lines) = bounded(8);
        let dropped = AtomicU64::new(0);
        offer(&queue, &dropped, b"last\n");
        let (done, written) = bounded(1);
        queue.try_send(Line::Flush(done)).unwrap();
        drop(queue);
        let mut out = Vec::new();
        write_lines(&lines, &dropped, &mut out);
        assert_eq!((out.as_slice(), written.try_recv()), (&b"last\n"[..], Ok(())));
    }
}
