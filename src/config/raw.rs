//! [`RawConfig`]: every entry that was handed in, untyped, with its origin.
//!
//! Stands for the `Properties` object of `QuorumPeerConfig.parse`, the argument array of
//! `ServerConfig.parse`, and the JVM's `-D` options. Nothing is judged here but syntax.

use std::sync::Arc;

use crate::wire::{has_byte_order_mark, parse_properties};

use super::key::{Kind, Status};
use super::keys::find;
use super::problem::{Origin, Problem, Severity, Topic};
use super::readings;
use super::shell::{Piece, ShellVariables};

/// One `key=value` with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawEntry {
    /// Key as written, trimmed.
    pub key: String,
    /// Value as ZooKeeper reads it, unescaped and trimmed.
    pub value: String,
    /// The value that the file has if it is read as UTF-8; `None` if it is the same.
    pub utf8: Option<String>,
    /// Where it stands.
    pub origin: Origin,
}

/// The form in which the configuration was handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Base {
    /// Neither file nor arguments: the embedded default.
    Embedded,
    /// `<port> <dataDir> [tickTime] [maxClientCnxns]`.
    Arguments,
    /// A zoo.cfg.
    File,
}

/// All entries, before they get types. Add `-D` options in rising precedence, as ZooKeeper's
/// scripts do: first the shell's, then the command line's.
#[derive(Clone, Debug)]
pub struct RawConfig {
    pub(super) base: Base,
    /// Entries of zoo.cfg, or the positional arguments under the names of zoo.cfg.
    pub(super) file: Vec<RawEntry>,
    /// Entries of the dynamic configuration file; `None` if none was handed in.
    pub(super) dynamic: Option<Vec<RawEntry>>,
    /// Why the dynamic configuration file was not handed in.
    pub(super) dynamic_error: Option<String>,
    /// Name of `myid`, and its content or why it cannot be read; `None` if it was not looked for.
    pub(super) my_id: Option<(String, Result<Vec<u8>, String>)>,
    /// `-D` options.
    pub(super) properties: Vec<RawEntry>,
    /// Syntax errors, and JVM options that mean nothing here.
    pub(super) problems: Vec<Problem>,
}

impl Default for RawConfig {
    fn default() -> RawConfig {
        RawConfig::new()
    }
}

impl RawConfig {
    /// No entries: the embedded default, 127.0.0.1:2181 with its data in `./data`.
    pub fn new() -> RawConfig {
        RawConfig {
            base: Base::Embedded,
            file: Vec::new(),
            dynamic: None,
            dynamic_error: None,
            my_id: None,
            properties: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Adds a zoo.cfg. `name` is how problems call it, `text` its content.
    pub fn add_file(&mut self, name: &str, text: &[u8]) {
        self.base = Base::File;
        let entries = self.parse(name, text);
        self.file.extend(entries);
    }

    /// Adds the membership file that `dynamicConfigFile` names, see
    /// [`RawConfig::dynamic_config_file`].
    pub fn add_dynamic_file(&mut self, name: &str, text: &[u8]) {
        let entries = self.parse(name, text);
        self.dynamic.get_or_insert_with(Vec::new).extend(entries);
    }

    /// Notes that the membership file cannot be read, and why: one problem among the others.
    pub fn miss_dynamic_file(&mut self, why: &str) {
        self.dynamic_error = Some(why.to_string());
    }

    /// Path of the membership file, if zoo.cfg names one: the caller reads it and hands it to
    /// [`RawConfig::add_dynamic_file`] or calls [`RawConfig::miss_dynamic_file`].
    pub fn dynamic_config_file(&self) -> Option<&str> {
        let named = self.file.iter().rev().find(|entry| entry.key == "dynamicConfigFile");
        named.map(|entry| entry.value.as_str())
    }

    /// Path of `myid`, which a member of an ensemble needs, if zoo.cfg names a data directory: the
    /// caller reads it and hands it, or why it cannot be read, to [`RawConfig::add_my_id`]. Call it
    /// after [`RawConfig::choose_paths`].
    pub fn my_id_file(&self) -> Option<String> {
        let dir = self.file.iter().rev().find(|entry| entry.key == "dataDir")?;
        let is_named = self.base == Base::File && !dir.value.is_empty();
        is_named.then(|| format!("{}/myid", dir.value.trim_end_matches('/')))
    }

    /// Adds the content of `myid`, or why it cannot be read. A server alone has no use of it.
    pub fn add_my_id(&mut self, name: &str, content: Result<Vec<u8>, String>) {
        self.my_id = Some((name.to_string(), content));
    }

    /// Decides which path is meant where a line of zoo.cfg can be read in two ways; see
    /// [`super::readings`]. `exists` says whether there is such a file or directory. Call it after
    /// [`RawConfig::add_file`].
    pub fn choose_paths(&mut self, exists: impl Fn(&str) -> bool) {
        for entry in &mut self.file {
            let is_path = find(&entry.key)
                .is_some_and(|key| key.kind == Kind::Path && key.status == Status::Supported);
            if is_path && matches!(entry.origin, Origin::File { .. }) {
                self.problems.extend(readings::choose(entry, &exists));
            }
        }
    }

    /// Adds the positional form `<port> <dataDir> [tickTime] [maxClientCnxns]`.
    pub fn add_arguments<S: AsRef<str>>(&mut self, arguments: &[S]) {
        self.base = Base::Arguments;
        if !(2..=4).contains(&arguments.len()) {
            let given: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
            self.problems.push(Problem {
                severity: Severity::Error,
                topic: Topic::Value,
                origin: Origin::CommandLine,
                key: String::new(),
                value: String::new(),
                what: format!("cannot use the arguments `{}`", given.join(" ")),
                hint: "give either the path of a zoo.cfg, or \
                       `<port> <dataDir> [tickTime] [maxClientCnxns]`"
                    .to_string(),
            });
        }
        let names = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
        for (key, value) in names.iter().zip(arguments) {
            self.file.push(RawEntry {
                key: (*key).to_string(),
                value: value.as_ref().trim().to_string(),
                utf8: None,
                origin: Origin::CommandLine,
            });
        }
    }

    /// Adds one `-D` option of the command line; `definition` is `key=value` without the `-D` and
    /// satisfies [`is_definition`]. As with Java, a key alone gets the empty value.
    pub fn define(&mut self, definition: &str) {
        self.push_property(definition, Origin::CommandLine);
    }

    /// Adds what the scripts beside zoo.cfg and the environment say, as `zkServer.sh` hands it to
    /// Java.
    pub fn add_shell(&mut self, shell: &ShellVariables) {
        self.problems.extend_from_slice(&shell.problems);
        // A switch of `zkServer.sh`, which makes it this property.
        let disables = shell.value("ZOO_DATADIR_AUTOCREATE_DISABLE");
        if let Some(set) = disables.iter().find(|piece| !piece.text.is_empty()) {
            self.push_property("zookeeper.datadir.autocreate=false", set.origin.clone());
        }
        for variable in ["SERVER_JVMFLAGS", "JVMFLAGS"] {
            self.add_options(shell.value(variable));
        }
    }

    /// Adds the options in a variable: `-Dkey=value`, separated by blanks, quotes keep blanks.
    /// Other JVM options are noted.
    fn add_options(&mut self, value: &[Piece]) {
        for (option, origin) in split_options(value) {
            let (severity, what, hint) = match option.strip_prefix("-D") {
                Some(definition) if is_definition(definition) => {
                    self.push_property(definition, origin);
                    continue;
                }
                Some(_) => (
                    Severity::Warning,
                    "defines nothing",
                    "write -Dkey=value without a blank, or remove it",
                ),
                None => (
                    Severity::Note,
                    "an option of the Java virtual machine; there is none here",
                    "",
                ),
            };
            self.problems.push(Problem {
                severity,
                topic: Topic::Ignored,
                origin,
                key: option,
                value: String::new(),
                what: what.to_string(),
                hint: hint.to_string(),
            });
        }
    }

    fn push_property(&mut self, definition: &str, origin: Origin) {
        let (key, value) = definition.split_once('=').unwrap_or((definition, ""));
        let (key, value) = (key.trim().to_string(), value.trim().to_string());
        self.properties.push(RawEntry { key, value, utf8: None, origin });
    }

    fn parse(&mut self, name: &str, text: &[u8]) -> Vec<RawEntry> {
        let name: Arc<str> = Arc::from(name);
        let mut entries = Vec::new();
        if has_byte_order_mark(text) {
            self.problems.push(Problem {
                severity: Severity::Warning,
                topic: Topic::Value,
                origin: Origin::File { name: name.clone(), line: 1 },
                key: String::new(),
                value: String::new(),
                what: "begins with a byte order mark, which ZooKeeper takes for a part of the \
                       first key, so that this line has no effect there; it has one here"
                    .to_string(),
                hint: "save the file without it".to_string(),
            });
        }
        for entry in parse_properties(text) {
            match entry {
                Ok(line) => entries.push(RawEntry {
                    key: line.key,
                    value: line.value,
                    utf8: line.utf8,
                    origin: Origin::File { name: name.clone(), line: line.line },
                }),
                Err(bad) => self.problems.push(Problem {
                    severity: Severity::Error,
                    topic: Topic::Value,
                    origin: Origin::File { name: name.clone(), line: bad.line },
                    key: String::new(),
                    value: String::new(),
                    what: format!("`{}` is not a character escape", bad.text),
                    hint: "write \\u and four hexadecimal digits, or \\\\u for a backslash and \
                           a u"
                    .to_string(),
                }),
            }
        }
        entries
    }
}

/// Whether what follows a `-D` names a key.
pub fn is_definition(definition: &str) -> bool {
    !definition.split('=').next().unwrap_or("").trim().is_empty()
}

/// Splits at blanks, as the shell does with an unquoted variable; quotes keep blanks and vanish. An
/// option comes from where it begins.
fn split_options(value: &[Piece]) -> Vec<(String, Origin)> {
    let mut options = Vec::new();
    let mut option: Option<(String, Origin)> = None;
    let mut quote: Option<char> = None;
    for piece in value {
        for c in piece.text.chars() {
            if quote.is_none() && c.is_whitespace() {
                options.extend(option.take());
                continue;
            }
            let (text, _) = option.get_or_insert_with(|| (String::new(), piece.origin.clone()));
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '"' || c == '\'' => quote = Some(c),
                Some(_) | None => text.push(c),
            }
        }
    }
    options.extend(option);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_at_blanks_outside_quotes() {
        let check = |text: &str, expected: &[&str]| {
            let piece = Piece { text: text.to_string(), origin: Origin::CommandLine };
            let found: Vec<_> = split_options(&[piece]).into_iter().map(|found| found.0).collect();
            assert_eq!(found, expected);
        };
        check("", &[]);
        check("  -Da=b   -Xmx1g\n", &["-Da=b", "-Xmx1g"]);
        check("-Da='b c' -D\"e f\"=g", &["-Da=b c", "-De f=g"]);
        check("-Da=''", &["-Da="]);
        check("-Da='b", &["-Da=b"]);
    }

    #[test]
    fn entries_keep_their_origin() {
        let mut raw = RawConfig::new();
        raw.add_file("zoo.cfg", b"# c\ntickTime=5\n");
        let flags = ("JVMFLAGS".to_string(), "-Xmx1g -Dzookeeper.snapCount=7 -D -D=x".to_string());
        raw.add_shell(&ShellVariables::new([flags]));
        raw.define("jute.maxbuffer");
        assert_eq!(raw.file[0].origin.to_string(), "zoo.cfg:2");
        assert_eq!(raw.properties[0].origin.to_string(), "variable JVMFLAGS");
        assert_eq!(
            (&*raw.properties[0].key, &*raw.properties[0].value),
            ("zookeeper.snapCount", "7")
        );
        assert_eq!(raw.properties[1].origin, Origin::CommandLine);
        let problems: Vec<_> = raw.problems.iter().map(|p| (p.severity, p.key.as_str())).collect();
        let (note, warning) = (Severity::Note, Severity::Warning);
        assert_eq!(problems, [(note, "-Xmx1g"), (warning, "-D"), (warning, "-D=x")]);
    }
}
