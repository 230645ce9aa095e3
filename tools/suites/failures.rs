//! What a log says of what failed, as short as a reader of the end of the output needs it.

use crate::context::{Failure, Log, say};

/// Lines shown after one that tells of a failure.
const CONTEXT: usize = 12;
/// Lines shown of all failures together.
const MOST: usize = 60;
/// Characters shown of a line.
const WIDTH: usize = 300;
/// Lines shown of the end of the log.
const TAIL: usize = 20;

/// Prints both to standard error.
pub fn show(log: &Log) -> Result<(), Failure> {
    let text = log.text()?;
    say(format!("what failed: {}", log.path().display()));
    excerpt(&text).iter().for_each(|line| eprintln!("{line}"));
    say("its end");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| eprintln!("{line}"));
    Ok(())
}

/// A line by which a test runner tells of a failure.
fn tells(line: &str) -> bool {
    ["FAILED", "error:", "error[", "Diff in", "E  "].iter().any(|begin| line.starts_with(begin))
        || line.starts_with("---- ") && line.ends_with(" stdout ----")
        || line.ends_with(":: FAILED")
}

/// Those lines with what follows each, numbered, a line `--` between groups that are apart.
fn excerpt(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut last_shown, mut left) = (0, 0);
    for (number, line) in (1..).zip(log.lines()) {
        let is_failure = tells(line);
        if is_failure {
            left = CONTEXT + 1;
        }
        if left == 0 {
            continue;
        }
        left -= 1;
        if last_shown != 0 && last_shown + 1 != number {
            found.push("--".to_owned());
        }
        last_shown = number;
        let mark = if is_failure { ':' } else { '-' };
        found.push(format!("{number}{mark}{line}").chars().take(WIDTH).collect());
    }
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_shown_with_what_follows() {
        let quiet = "fine\n".repeat(20);
        let log = format!("fine\n---- a stdout ----\nwhy\n{quiet}FAILED b\nerror: c\n");
        let shown = excerpt(&log);
        assert_eq!(shown[..2], ["2:---- a stdout ----", "3-why"]);
        assert_eq!(shown[12..], ["14-fine", "--", "24:FAILED b", "25:error: c"]);
    }

    #[test]
    fn what_tells_of_a_failure() {
        for line in [
            "error[E0308]: mismatched types",
            "E   AssertionError",
            "Diff in src/lib.rs:1:",
            "JUnit Jupiter > A > b() :: FAILED",
        ] {
            assert!(tells(line), "{line}");
        }
        for line in ["errors: 0", "not FAILED", "test result: ok", "---- a stderr ----"] {
            assert!(!tells(line), "{line}");
        }
    }

    #[test]
    fn an_excerpt_is_short() {
        let shown = excerpt(&format!("FAILED {}\n", "ä".repeat(1000)).repeat(100));
        assert_eq!(shown.len(), MOST);
        assert_eq!(shown[0].chars().count(), WIDTH);
    }
}
