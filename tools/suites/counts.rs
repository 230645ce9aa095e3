//! What a suite counted: read from what each test runner prints or writes.

use std::ops::AddAssign;

/// Tests that passed and that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Number of tests.
    pub passed: u64,
    /// Number of tests.
    pub failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl Counts {
    /// The lines `test result: ok. 3 passed; 1 failed; …` of `cargo test`, added up.
    pub fn of_cargo(log: &str) -> Counts {
        let one = |line: &str| {
            let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
            let (passed, rest) = rest.split_once(" passed; ")?;
            let (failed, _) = rest.split_once(" failed;")?;
            Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
        };
        Counts::sum(log, one)
    }

    /// The lines `3 passed, 1 failed` of our own checks, added up.
    pub fn of_checks(log: &str) -> Counts {
        let one = |line: &str| {
            let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
            Some(Counts { passed: passed.parse().ok()?, failed: failed.parse().ok()? })
        };
        Counts::sum(log, one)
    }

    /// The attributes of the first `<testsuite>` of pytest's XML report. A test that was skipped
    /// neither passed nor failed.
    pub fn of_pytest(xml: &str) -> Option<Counts> {
        let (_, rest) = xml.split_once("<testsuite ")?;
        let tag = format!(" {}", rest.split_once('>')?.0);
        let attribute = |name: &str| -> Option<u64> {
            // Where a name is the end of a longer one, no space is before it.
            let (_, value) = tag.split_once(&format!(" {name}=\""))?;
            value.split_once('"')?.0.parse().ok()
        };
        let failed = attribute("failures")? + attribute("errors")?;
        let other = failed + attribute("skipped")?;
        Some(Counts { passed: attribute("tests")?.checked_sub(other)?, failed })
    }

    /// The lines `[ 3 tests successful ]` and `[ 1 tests failed ]` of JUnit's console, added up.
    pub fn of_junit(log: &str) -> Counts {
        let one = |line: &str| {
            let inner = line.strip_prefix('[')?.trim_start();
            let (number, rest) = inner.split_once(' ')?;
            let number = number.parse().ok()?;
            if rest.starts_with("tests successful") {
                Some(Counts { passed: number, failed: 0 })
            } else if rest.starts_with("tests failed") {
                Some(Counts { passed: 0, failed: number })
            } else {
                None
            }
        };
        Counts::sum(log, one)
    }

    fn sum(log: &str, one: impl Fn(&str) -> Option<Counts>) -> Counts {
        let mut total = Counts::default();
        log.lines().filter_map(one).for_each(|counts| total += counts);
        total
    }

    /// A suite that ended badly, or that ran nothing, has failed, even if it counted no failure.
    pub fn judged(self, has_ended_well: bool) -> Counts {
        let is_good = has_ended_well && self.passed > 0;
        let failed = if self.failed == 0 && !is_good { 1 } else { self.failed };
        Counts { failed, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Counts {
        Counts { passed, failed }
    }

    #[test]
    fn cargo_prints_a_line_for_each_binary() {
        let log = "running 2 tests\n\
                   test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
                   test result: FAILED. 40 passed; 3 failed; 1 ignored; 0 measured\n\
                   it said test result: ok. 9 passed; 9 failed;\n";
        assert_eq!(Counts::of_cargo(log), counts(42, 3));
        assert_eq!(Counts::of_cargo("error: could not compile\n"), counts(0, 0));
    }

    #[test]
    fn checks_print_a_line_for_each_program() {
        let log = "ok create\n12 passed, 0 failed\nFAILED set\n3 passed, 1 failed\n\
                   12 passed, 0 failed, more\nall passed, none failed\n";
        assert_eq!(Counts::of_checks(log), counts(15, 1));
    }

    #[test]
    fn pytest_writes_attributes_in_any_order() {
        let xml = "<?xml version=\"1.0\"?><testsuites name=\"all\" tests=\"99\"><testsuite \
                   name=\"pytest\" errors=\"1\" failures=\"2\" skipped=\"5\" tests=\"100\" \
                   time=\"3.1\"><testcase/></testsuite></testsuites>";
        assert_eq!(Counts::of_pytest(xml), Some(counts(92, 3)));
        let xml = "<testsuite tests=\"4\" errors=\"0\" failures=\"0\" skipped=\"0\" x-tests=\"9\">";
        assert_eq!(Counts::of_pytest(xml), Some(counts(4, 0)));
        assert_eq!(Counts::of_pytest("<testsuites></testsuites>"), None);
        assert_eq!(Counts::of_pytest("<testsuite tests=\"1\">"), None);
    }

    #[test]
    fn junit_prints_two_lines_for_each_class() {
        let log = "[         7 containers successful ]\n[        12 tests successful      ]\n\
                   [         2 tests failed          ]\n[         5 tests successful      ]\n\
                   [ 1 tests failed ] no result of A\n[         3 tests found           ]\n";
        assert_eq!(Counts::of_junit(log), counts(17, 3));
    }

    #[test]
    fn a_suite_without_a_passed_test_has_failed() {
        assert_eq!(counts(3, 0).judged(true), counts(3, 0));
        assert_eq!(counts(3, 0).judged(false), counts(3, 1));
        assert_eq!(counts(3, 2).judged(false), counts(3, 2));
        assert_eq!(counts(0, 0).judged(true), counts(0, 1));
        assert_eq!(counts(0, 4).judged(true), counts(0, 4));
    }
}
