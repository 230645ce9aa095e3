//! [`ShellVariables`]: what the environment and the scripts set, each letter with its origin.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::problem::{Origin, Problem, Severity, Topic};
use super::lexer::Part;
use super::script::{self, Assignment, Statement};

/// A part of a value, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::config) struct Piece {
    pub(in crate::config) text: String,
    pub(in crate::config) origin: Origin,
}

/// The variables that the environment and the scripts set, and the problems of the scripts.
#[derive(Clone, Debug, Default)]
pub struct ShellVariables {
    variables: BTreeMap<String, Vec<Piece>>,
    pub(in crate::config) problems: Vec<Problem>,
}

/// Names of the scripts, in the order in which they run.
pub const SCRIPTS: [&str; 2] = ["zookeeper-env.sh", "java.env"];

/// Variables that Java reads by itself, though only where they are exported.
const READ_BY_JAVA: [&str; 3] = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"];

/// Variables of ZooKeeper's scripts that mean nothing without them and without Java.
const WITHOUT_EFFECT: [&str; 18] = [
    "CLASSPATH",
    "CLIENT_JVMFLAGS",
    "JAVA",
    "JAVA_HOME",
    "JMXAUTH",
    "JMXDISABLE",
    "JMXHOSTNAME",
    "JMXLOCALONLY",
    "JMXPORT",
    "JMXSSL",
    "ZK_CLIENT_HEAP",
    "ZK_SERVER_HEAP",
    "ZOOMAIN",
    "ZOOPIDFILE",
    "ZOO_LOG4J_PROP",
    "ZOO_LOG_DIR",
    "ZOO_LOG_FILE",
    "ZOO_NOEXEC",
];

impl ShellVariables {
    /// The variables of an environment, before any script.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> ShellVariables {
        let mut shell = ShellVariables::default();
        for (name, text) in environment {
            let origin = Origin::Variable(Arc::from(&*name));
            let pieces = vec![Piece { text, origin }];
            if READ_BY_JAVA.contains(&&*name) {
                shell.warn_of_java(&name, &pieces);
            }
            shell.variables.insert(name, pieces);
        }
        shell
    }

    /// Runs a script, as far as it can be read. `name` is how problems call it.
    pub fn run(&mut self, name: &str, script: &[u8]) {
        let file: Arc<str> = Arc::from(name);
        for (line, statement) in script::statements(&String::from_utf8_lossy(script)) {
            let origin = Origin::Script { name: file.clone(), line };
            match statement {
                Statement::Assignments(all) => {
                    for assignment in all {
                        self.assign(&file, &origin, &assignment);
                    }
                }
                Statement::Other { first, raw } => {
                    let what =
                        format!("`{first}` is no plain assignment, so it is not carried out");
                    self.warn_of_loss(origin, what, &raw);
                }
            }
        }
    }

    /// Notes that a script cannot be read, and why. `zkEnv.sh` goes on without it, too.
    pub fn miss(&mut self, name: &str, why: &str) {
        let origin = Origin::Script { name: Arc::from(name), line: 1 };
        let what = format!("cannot be read, so what it sets has no effect: {why}");
        self.warn(origin, String::new(), what, "make it readable, or remove it");
    }

    /// The value of a variable; nothing if it is not set.
    pub(in crate::config) fn value(&self, name: &str) -> &[Piece] {
        self.variables.get(name).map_or(&[], Vec::as_slice)
    }

    fn assign(&mut self, file: &Arc<str>, origin: &Origin, assignment: &Assignment) {
        let Assignment { name, is_appended, parts, raw } = assignment;
        let mut pieces = if *is_appended { self.value(name).to_vec() } else { Vec::new() };
        if !self.expand(file, parts, &mut pieces) {
            let what = format!(
                "the value of {name} needs a shell to be worked out, so {name} stays as it was"
            );
            self.warn_of_loss(origin.clone(), what, raw);
            return;
        }
        if READ_BY_JAVA.contains(&&**name) {
            self.warn_of_java(name, &pieces);
        }
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        let dir = file.rsplit_once('/').map_or(".", |(dir, _)| dir);
        let is_elsewhere = match &**name {
            "ZOOCFGDIR" => text.trim_end_matches('/') != dir,
            "ZOOCFG" => text != "zoo.cfg",
            _ => false,
        };
        if is_elsewhere {
            let what = "sends ZooKeeper's scripts to another configuration; the file that was \
                        named at the start is read here, with the scripts beside it";
            let hint = "name that configuration at the start, or remove the line";
            self.warn(origin.clone(), name.clone(), what.to_string(), hint);
        } else if WITHOUT_EFFECT.contains(&&**name) {
            self.problems.push(Problem {
                severity: Severity::Note,
                topic: Topic::Ignored,
                origin: origin.clone(),
                key: name.clone(),
                value: String::new(),
                what: "a variable of ZooKeeper's scripts; nothing here depends on it".to_string(),
                hint: String::new(),
            });
        }
        self.variables.insert(name.clone(), pieces);
    }

    /// Adds the value of `parts` to `pieces`; false if only a shell knows it.
    fn expand(&self, file: &Arc<str>, parts: &[Part], pieces: &mut Vec<Piece>) -> bool {
        parts.iter().all(|part| match part {
            // What is not UTF-8 came out as this character.
            Part::Text { text, .. } if text.contains('\u{fffd}') => false,
            Part::Text { text, line } => {
                let origin = Origin::Script { name: file.clone(), line: *line };
                pieces.push(Piece { text: text.clone(), origin });
                true
            }
            Part::Variable { name, default } => {
                let value = self.value(name);
                match default.as_ref().filter(|_| value.iter().all(|p| p.text.is_empty())) {
                    Some(default) => self.expand(file, default, pieces),
                    None => {
                        pieces.extend_from_slice(value);
                        true
                    }
                }
            }
            Part::Unknown => false,
        })
    }

    /// `-D` options in a variable that Java reads by itself.
    fn warn_of_java(&mut self, name: &str, pieces: &[Piece]) {
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        let Some(first) = pieces.first().filter(|_| !script::defined(&text).is_empty()) else {
            return;
        };
        let what = format!("{name} is read by Java itself, and not here");
        self.warn_of_loss(first.origin.clone(), what, &text);
    }

    /// A warning that names the variables and properties in `raw`. Values stay out of it: some are
    /// secret.
    fn warn_of_loss(&mut self, origin: Origin, what: String, raw: &str) {
        let (set, lost) = (script::assigned(raw), script::defined(raw));
        let mut what = what;
        if !set.is_empty() {
            what += &format!("; it may set {}", set.join(", "));
        }
        let hint = if lost.is_empty() {
            "write a plain assignment, such as JVMFLAGS=\"-Dkey=value\", if it is needed"
        } else {
            what += &format!("; not taken: {}", lost.join(", "));
            "put these into zoo.cfg, on the command line, or into a plain assignment such as \
             JVMFLAGS=\"-Dkey=value\""
        };
        self.warn(origin, String::new(), what, hint);
    }

    fn warn(&mut self, origin: Origin, key: String, what: String, hint: &str) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            topic: Topic::Unknown,
            origin,
            key,
            value: String::new(),
            what,
            hint: hint.to_string(),
        });
    }
}
