//! Reads typed values out of the resolved entries, and lists the values in effect.
//!
//! A wrong value is reported and replaced by the default, so that reading goes on and all errors
//! come out together; [`super::check`] then withholds the settings.

use super::key::{Key, Kind, Standard};
use super::keys::find;
use super::problem::{Origin, Problem, Severity, Topic};
use super::resolve::{Found, Resolved, problem};
use super::values;

/// One value in effect, for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// Name of the key, without prefix.
    pub name: String,
    /// The value in the syntax of the configuration file, or `***` for a secret.
    pub value: String,
    /// Unit of a number, or empty.
    pub unit: &'static str,
    /// Where the value came from.
    pub origin: Origin,
}

#[derive(Debug)]
pub(super) struct Reader {
    pub(super) resolved: Resolved,
    pub(super) effective: Vec<Effective>,
}

impl Reader {
    pub(super) fn new(resolved: Resolved) -> Reader {
        Reader { resolved, effective: Vec::new() }
    }

    /// A whole number with a default in the table.
    pub(super) fn int(&mut self, name: &str) -> i64 {
        self.int_or_derived(name).unwrap_or(0)
    }

    /// As [`Reader::int`], for numbers that the table keeps above zero and within 32 bits.
    pub(super) fn natural(&mut self, name: &str) -> u32 {
        u32::try_from(self.int(name).max(0)).unwrap_or(u32::MAX)
    }

    /// As [`Reader::int`]; zero and less come out as `None`.
    pub(super) fn positive(&mut self, name: &str) -> Option<u64> {
        u64::try_from(self.int(name)).ok().filter(|value| *value > 0)
    }

    /// A whole number; `None` if nobody sets it and the default is computed, which the caller then
    /// hands to [`Reader::derived`].
    pub(super) fn int_or_derived(&mut self, name: &str) -> Option<i64> {
        let (key, text, set) = self.resolved(name)?;
        if let Some((value, raised)) = text.as_deref().and_then(|t| values::int(key.kind, t)) {
            if raised {
                self.warn(name, format!("too small; {value} is used, as ZooKeeper does"), "");
            }
            self.record(name, value.to_string());
            return Some(value);
        }
        let standard = if set { self.refuse(name, key) } else { standard(key) };
        standard.and_then(|text| values::int(key.kind, text)).map(|(value, _)| value)
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.flag_or_derived(name).unwrap_or(false)
    }

    /// A flag; `None` as with [`Reader::int_or_derived`].
    pub(super) fn flag_or_derived(&mut self, name: &str) -> Option<bool> {
        let (key, text, set) = self.resolved(name)?;
        let text = text?;
        let value = match (values::boolean(&text), key.kind) {
            (Some(value), _) => value,
            (None, Kind::JavaBool) => {
                let what = "neither true nor false; read as false, as Java does".to_string();
                self.warn(name, what, "write true or false");
                false
            }
            (None, _) => {
                let standard = if set { self.refuse(name, key) } else { standard(key) };
                return standard.and_then(values::boolean);
            }
        };
        self.record(name, value.to_string());
        Some(value)
    }

    /// Whether a yes/no switch is at its default.
    pub(super) fn is_standard(&mut self, name: &str) -> bool {
        let Some((key, Some(text), _)) = self.resolved(name) else { return true };
        let Kind::Switch { flips } = key.kind else { return true };
        let is_standard = text != flips;
        let kept = standard(key).unwrap_or("");
        if is_standard && text != kept {
            let what = format!("neither yes nor no; read as {kept}, as ZooKeeper does");
            self.warn(name, what, "write yes or no, in lower case");
        }
        self.record(name, if is_standard { kept } else { flips }.to_string());
        is_standard
    }

    pub(super) fn decimal(&mut self, name: &str) -> f64 {
        let Some((key, text, set)) = self.resolved(name) else { return 0.0 };
        if let Some(value) = text.as_deref().and_then(|text| values::decimal(key.kind, text)) {
            self.record(name, value.to_string());
            return value;
        }
        let standard = if set { self.refuse(name, key) } else { standard(key) };
        standard.and_then(|text| values::decimal(key.kind, text)).unwrap_or(0.0)
    }

    /// Text, a path, a list before it is split, or a word of a choice; `None` if it is not set or
    /// empty.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let (key, text, set) = self.resolved(name)?;
        let Some(text) = text else {
            if key.default == Standard::Unset {
                self.record(name, String::new());
            }
            return None;
        };
        let text = match key.kind {
            Kind::Choice(words) => match values::choice(words, &text) {
                Some(word) => word.to_string(),
                None if set => self.refuse(name, key).unwrap_or("").to_string(),
                None => String::new(),
            },
            _ => text,
        };
        self.record(name, text.clone());
        Some(text).filter(|text| !text.is_empty())
    }

    /// A word of a choice whose default is in the table.
    pub(super) fn word(&mut self, name: &str) -> String {
        self.text(name).unwrap_or_default()
    }

    pub(super) fn list(&mut self, name: &str) -> Vec<String> {
        self.text(name).map(|text| values::list(&text)).unwrap_or_default()
    }

    /// Milliseconds, 0 for off.
    pub(super) fn time_ms(&mut self, name: &str) -> u64 {
        self.parsed(name, values::hours_or_time_ms).unwrap_or(0)
    }

    /// `None` is auto.
    pub(super) fn auto(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, values::auto).flatten()
    }

    pub(super) fn cpu(&mut self, name: &str) -> Option<usize> {
        self.parsed(name, values::cpu)
    }

    pub(super) fn cpus(&mut self, name: &str) -> Vec<usize> {
        self.parsed(name, values::cpus).unwrap_or_default()
    }

    fn parsed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (key, text, _) = self.resolved(name)?;
        let Some(text) = text else {
            self.record(name, String::new());
            return None;
        };
        if let Some(value) = parse(&text) {
            self.record(name, text);
            return Some(value);
        }
        self.refuse(name, key).and_then(parse)
    }

    /// Sets the value in effect of a key whose default is computed.
    pub(super) fn derived(&mut self, name: &str, value: impl ToString) {
        let unit = find(name).map_or("", |key| key.unit);
        let name = name.to_string();
        self.effective.retain(|effective| effective.name != name);
        let value = value.to_string();
        self.effective.push(Effective { name, value, unit, origin: Origin::Default });
    }

    /// Reports an error in the value of `name`.
    pub(super) fn error(&mut self, name: &str, what: String, hint: &str) {
        self.report(Severity::Error, name, what, hint);
    }

    /// Reports a doubtful value of `name`.
    pub(super) fn warn(&mut self, name: &str, what: String, hint: &str) {
        self.report(Severity::Warning, name, what, hint);
    }

    /// Whether somebody set `name`.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.resolved.found.contains_key(name)
    }

    /// The entries of a key that ends in `*`, by name.
    pub(super) fn all(&self, key_name: &str) -> Vec<Found> {
        let found = self.resolved.found.values();
        found.filter(|found| found.key.name == key_name).cloned().collect()
    }

    fn report(&mut self, severity: Severity, name: &str, what: String, hint: &str) {
        let problem = match self.resolved.found.get(name) {
            Some(found) => problem(severity, Topic::Value, &found.entry, what, hint.to_string()),
            None => Problem {
                severity,
                topic: Topic::Value,
                origin: Origin::Default,
                key: name.to_string(),
                value: String::new(),
                what,
                hint: hint.to_string(),
            },
        };
        self.resolved.problems.push(problem);
    }

    /// The key, its text (set or default), and whether it was set.
    fn resolved(&mut self, name: &str) -> Option<(&'static Key, Option<String>, bool)> {
        let Some(key) = find(name) else {
            // Only a slip in this module gets here; a test reads every key.
            self.error(name, "not in the key table".to_string(), "report this as a bug");
            return None;
        };
        match self.resolved.found.get(name) {
            Some(found) => Some((key, Some(found.entry.value.clone()), true)),
            None => Some((key, standard(key).map(str::to_string), false)),
        }
    }

    /// Reports the value of `name` as not allowed; returns the default in its place.
    fn refuse(&mut self, name: &str, key: &'static Key) -> Option<&'static str> {
        let hint = match key.default {
            Standard::Value("") => "correct it, or remove the line".to_string(),
            Standard::Value(text) => {
                format!("correct it, or remove the line to get the default, {text}")
            }
            Standard::Derived(text) => {
                format!("correct it, or remove the line to get the default, which is {text}")
            }
            Standard::Unset => "correct it, or remove the line".to_string(),
            Standard::Required => "correct it".to_string(),
        };
        self.error(name, format!("not allowed; it has to be {}", key.allowed()), &hint);
        let standard = standard(key);
        self.derived(name, standard.unwrap_or(""));
        standard
    }

    fn record(&mut self, name: &str, value: String) {
        let found = self.resolved.found.get(name);
        let origin = found.map_or(Origin::Default, |found| found.entry.origin.clone());
        let key = find(name);
        let is_secret = key.is_some_and(|key| key.is_secret) && !value.is_empty();
        let value = if is_secret { "***".to_string() } else { value };
        // A time may bring its own unit; an unset value has none.
        let is_number = value.ends_with(|c: char| c.is_ascii_digit());
        let unit = key.filter(|_| is_number).map_or("", |key| key.unit);
        self.effective.push(Effective { name: name.to_string(), value, unit, origin });
    }
}

fn standard(key: &'static Key) -> Option<&'static str> {
    match key.default {
        Standard::Value(text) => Some(text),
        Standard::Derived(_) | Standard::Unset | Standard::Required => None,
    }
}
