//! What `RUST_LOG` may say. The logging library takes any word for the name of a module and then
//! logs nothing at all, errors included; here that is a complaint.

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

const DEFAULT: &str = "info";

/// The filter to log by, from the value of `RUST_LOG`; and, if that value is invalid, a message
/// that says why it is ignored.
pub fn log_filter(value: Option<&str>) -> (String, Option<String>) {
    let value = value.unwrap_or("").trim();
    let directives = || value.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    if directives().next().is_none() {
        return (DEFAULT.to_owned(), None);
    }
    match directives().find(|directive| !is_usable(directive)) {
        None => (value.to_owned(), None),
        Some(bad) => {
            let complaint = format!(
                "RUST_LOG={value}: `{bad}` is no level; {DEFAULT} is used. Write one of {}, or, \
                 for a part of the server, ringkeeper::replica=debug",
                LEVELS.join(", ")
            );
            (DEFAULT.to_owned(), Some(complaint))
        }
    }
}

fn is_usable(directive: &str) -> bool {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_ours = |target: &str| {
        target
            .strip_prefix("ringkeeper")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    match directive.split_once('=') {
        Some((target, level)) => is_ours(target) && is_level(level),
        None => is_level(directive) || is_ours(directive),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_our_modules_are_taken() {
        for value in ["warn", "DEBUG", "ringkeeper", "ringkeeper::replica=debug,error", "off"] {
            assert_eq!(log_filter(Some(value)), (value.to_owned(), None));
        }
        for value in [None, Some(""), Some(" , ")] {
            assert_eq!(log_filter(value), ("info".to_owned(), None));
        }
    }

    #[test]
    fn what_would_silence_the_log_is_complained_about() {
        for value in ["chatty", "warning", "info,ringkeeper=loud", "hyper=debug"] {
            let (filter, complaint) = log_filter(Some(value));
            assert_eq!(filter, "info");
            assert!(complaint.unwrap().starts_with(&format!("RUST_LOG={value}: `")));
        }
    }
}
