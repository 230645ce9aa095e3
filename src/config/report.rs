//! [`Check`]: the outcome of checking a configuration, and its rendering.
//!
//! ZooKeeper has no such command; a wrong configuration shows when the server starts.

use std::fmt::Write;

use crate::quorum::Role;

use super::key::Place;
use super::keys::find;
use super::problem::{Finding, Origin, Problem, Severity, Topic, Verdict};
use super::reader::Effective;
use super::settings::{EnsembleSettings, Settings};

/// Exit code of ZooKeeper for an invalid configuration.
const EXIT_INVALID: u8 = 2;

/// Outcome of checking a configuration.
#[derive(Clone, Debug)]
pub struct Check {
    settings: Settings,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
    /// What to exit with if there is any error.
    exit_code: u8,
}

impl Check {
    pub(super) fn new(
        settings: Settings,
        problems: Vec<Problem>,
        effective: Vec<Effective>,
    ) -> Check {
        Check { settings, problems, effective, exit_code: EXIT_INVALID }
    }

    /// Adds the findings of `examine`, which may ask the machine. Keys that have an error already
    /// are passed over.
    pub fn add_findings(&mut self, examine: impl FnOnce(&Settings) -> Vec<Finding>) {
        for finding in examine(&self.settings) {
            let Finding { key, what, hint, verdict } = finding;
            let short = |problem: &Problem| {
                problem.key.strip_prefix("zookeeper.").unwrap_or(&problem.key) == key
            };
            if self.errors().any(short) {
                continue;
            }
            if let Verdict::Refused { exit_code } = verdict
                && self.is_ok()
            {
                self.exit_code = exit_code;
            }
            let (severity, topic) = match verdict {
                Verdict::Refused { .. } => (Severity::Error, Topic::Value),
                Verdict::Doubtful => (Severity::Warning, Topic::Value),
                Verdict::Noted => (Severity::Note, Topic::Now),
            };
            let set = self.effective.iter().find(|effective| effective.name == key);
            self.problems.push(Problem {
                severity,
                topic,
                origin: set.map_or(Origin::Default, |set| set.origin.clone()),
                key: key.into_owned(),
                value: set.map_or(String::new(), |set| set.value.clone()),
                what,
                hint,
            });
        }
    }

    /// The settings; `None` if there is any error.
    pub fn settings(&self) -> Option<&Settings> {
        if self.is_ok() { Some(&self.settings) } else { None }
    }

    /// The settings and warnings, or all errors.
    pub fn into_settings(self) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
        let wanted = if self.is_ok() { Severity::Warning } else { Severity::Error };
        let is_ok = self.is_ok();
        let problems = self.problems.into_iter().filter(|p| p.severity == wanted).collect();
        if is_ok { Ok((self.settings, problems)) } else { Err(problems) }
    }

    /// Whether the server can start with this configuration.
    pub fn is_ok(&self) -> bool {
        self.errors().next().is_none()
    }

    /// What the process should exit with: 0, or as ZooKeeper does 2 for an invalid configuration
    /// and 3 for a data directory that cannot be used.
    pub fn exit_code(&self) -> u8 {
        if self.is_ok() { 0 } else { self.exit_code }
    }

    /// All findings.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What keeps the server from starting.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// What should be logged at the start.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }

    /// The values in effect, sorted by name.
    pub fn effective(&self) -> &[Effective] {
        &self.effective
    }

    /// The text of `ringkeeper check`: values in effect, keys without effect, warnings and errors.
    pub fn report(&self) -> String {
        let mut text = self.settings.ensemble.as_ref().map_or(String::new(), describe);
        text.push_str("Values in effect:\n");
        for effective in &self.effective {
            let value = if effective.value.is_empty() { "(none)" } else { &effective.value };
            let unit = if effective.unit.is_empty() { "" } else { " " };
            let line = format!(
                "  {}={value}{unit}{}  # {}",
                effective.name, effective.unit, effective.origin
            );
            text.push_str(&line);
            text.push('\n');
            let Some(key) = find(&effective.name) else { continue };
            // ZooKeeper's documentation explains the others.
            if key.place == Place::Own {
                let _ = writeln!(text, "      {} ({})", key.doc, key.allowed());
            }
            if effective.origin == Origin::Default && !key.unless_set.is_empty() {
                let _ = writeln!(text, "      {}", key.unless_set);
            }
        }
        self.write_section(&mut text, "Accepted without effect", Topic::Ignored);
        self.write_section(&mut text, "Not built yet", Topic::NotBuilt);
        self.write_section(&mut text, "Not read", Topic::Unknown);
        self.write_section(&mut text, "Wrong or doubtful values", Topic::Value);
        self.write_section(&mut text, "In use now", Topic::Now);
        let (errors, warnings) = (self.errors().count(), self.warnings().count());
        let verdict = if errors == 0 {
            "the server can start with this configuration"
        } else {
            "the server cannot start with this configuration"
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{errors} error(s), {warnings} warning(s): {verdict}.");
        text.push_str("Nothing was changed. Whether the data is whole shows at the start.\n");
        text
    }

    /// Problems of one topic, the worst first.
    fn write_section(&self, text: &mut String, title: &str, topic: Topic) {
        let mut problems: Vec<_> = self.problems.iter().filter(|p| p.topic == topic).collect();
        if problems.is_empty() {
            return;
        }
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
        let _ = writeln!(text, "\n{title}:");
        for problem in problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
}

/// What a member is to its ensemble.
fn describe(ensemble: &EnsembleSettings) -> String {
    let voters = ensemble.membership.quorums().voters().len();
    let observers = ensemble.membership.members().count() - voters;
    let role = match ensemble.role() {
        Role::Participant => "participant",
        Role::Observer => "observer",
    };
    let sid = ensemble.sid.0;
    let all = format!("{voters} participants and {observers} observers");
    format!("Server {sid}, one {role} of an ensemble of {all}.\n\n")
}
