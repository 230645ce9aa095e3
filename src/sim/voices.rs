//! What the servers of a run log, for its history.

use std::cell::RefCell;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Voices;

impl Log for Voices {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{}: {}", record.level(), record.args());
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn flush(&self) {}
}

/// From now on histories have the lines that servers log. A process that logs elsewhere goes on to.
pub fn show_log_lines() {
    if log::set_logger(&Voices).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

/// The lines since the last call.
pub(super) fn take_lines() -> Vec<String> {
    LINES.take()
}
