//! Statements of a shell script: assignments, and all others as one kind.

use super::lexer::{Lexer, Part, Token, Word, is_name_start};

/// `NAME=value` or `NAME+=value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) is_appended: bool,
    pub(super) parts: Vec<Part>,
    /// As it is written.
    pub(super) raw: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Statement {
    /// With or without `export`; none for an export of a name alone.
    Assignments(Vec<Assignment>),
    /// A command, a condition, a loop, a function.
    Other {
        /// What it begins with, without a value.
        first: String,
        /// As it is written.
        raw: String,
    },
}

/// The statements of `script`, with the lines on which they begin. What belongs to a condition, a
/// loop or a function is one statement with it.
pub(super) fn statements(script: &str) -> Vec<(u32, Statement)> {
    let mut lexer = Lexer::new(script);
    let mut all = Vec::new();
    loop {
        let start = lexer.position();
        let line = lexer.line;
        match Tokens::read(&mut lexer) {
            None => return all,
            Some(tokens) if tokens.all.is_empty() => {}
            Some(tokens) => all.push((line, tokens.statement(lexer.since(start)))),
        }
    }
}

/// The tokens of one statement.
#[derive(Default)]
struct Tokens {
    all: Vec<Token>,
    /// What ends the conditions, loops and brackets that are open.
    open: Vec<&'static str>,
    /// Whether the next word would be a command.
    is_command: bool,
    /// Whether the last token needs another command, as `&&` does.
    is_unfinished: bool,
}

impl Tokens {
    /// Up to the end of a statement; `None` at the end of the script.
    fn read(lexer: &mut Lexer) -> Option<Tokens> {
        let mut tokens = Tokens { is_command: true, ..Tokens::default() };
        loop {
            let Some(token) = lexer.next_token() else {
                return (!tokens.all.is_empty()).then_some(tokens);
            };
            match &token {
                Token::End if tokens.open.is_empty() && !tokens.is_unfinished => {
                    return Some(tokens);
                }
                Token::End => tokens.is_command = true,
                Token::Operator(operator) => {
                    tokens.operator(operator);
                    if operator == "<<" {
                        // Lines of text follow, which are no statements; where they end is more
                        // than has to be known.
                        lexer.skip_all();
                    }
                    tokens.all.push(token);
                }
                Token::Word(word) => {
                    tokens.word(&word.raw);
                    tokens.all.push(token);
                }
            }
        }
    }

    fn operator(&mut self, operator: &str) {
        match operator {
            "(" => self.open.push(")"),
            ")" if self.open.last() == Some(&")") => {
                self.open.pop();
            }
            // Other operators, and the `)` of a pattern within `case`.
            _ => {}
        }
        self.is_command = true;
        // The body of a function may begin on the next line.
        let is_function = operator == ")" && self.all.len() == 2;
        self.is_unfinished = is_function || matches!(operator, "&&" | "||" | "|");
    }

    fn word(&mut self, word: &str) {
        self.is_unfinished = false;
        if !self.is_command {
            return;
        }
        self.is_command = matches!(word, "if" | "then" | "elif" | "else" | "while" | "until")
            || matches!(word, "do" | "{" | "!");
        match word {
            "if" => self.open.push("fi"),
            "case" => self.open.push("esac"),
            "for" | "while" | "until" | "select" => self.open.push("done"),
            "{" => self.open.push("}"),
            _ if self.open.last() == Some(&word) => {
                self.open.pop();
            }
            _ => {}
        }
    }

    fn statement(self, raw: String) -> Statement {
        let first = match self.all.first() {
            Some(Token::Word(word)) => word.raw.clone(),
            Some(Token::Operator(operator)) => operator.clone(),
            Some(Token::End) | None => String::new(),
        };
        match self.assignments(first == "export") {
            Some(assignments) => Statement::Assignments(assignments),
            None => {
                // A value may be secret, and a command long.
                let name = first.split_inclusive('=').next().unwrap_or("");
                Statement::Other { first: name.chars().take(40).collect(), raw }
            }
        }
    }

    /// The assignments, if the statement is nothing else.
    fn assignments(self, is_export: bool) -> Option<Vec<Assignment>> {
        let words = self.all.into_iter().skip(usize::from(is_export));
        let mut assignments = Vec::new();
        for token in words {
            let Token::Word(word) = token else { return None };
            let is_name = is_export && word.raw.chars().all(|c| is_name_start(c) || c.is_numeric());
            match assignment(word) {
                Some(assignment) => assignments.push(assignment),
                // It is set already.
                None if is_name => {}
                None => return None,
            }
        }
        Some(assignments)
    }
}

fn assignment(word: Word) -> Option<Assignment> {
    let Word { mut parts, raw } = word;
    let Some(Part::Text { text, .. }) = parts.first_mut() else { return None };
    let (name, value) = text.split_once('=')?;
    let (name, is_appended) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
    let name = name.to_string();
    // Quotes or an escape before the sign make it a command.
    let is_name = name.starts_with(is_name_start)
        && name.chars().all(|c| is_name_start(c) || c.is_ascii_digit())
        && raw.starts_with(&name);
    if !is_name {
        return None;
    }
    *text = value.to_string();
    Some(Assignment { name, is_appended, parts, raw })
}

/// The names that are assigned to anywhere in `raw`, each once.
pub(super) fn assigned(raw: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let is_part = |c: char| is_name_start(c) || c.is_ascii_digit();
    for word in raw.split(|c: char| c.is_whitespace() || ";&|(){}".contains(c)) {
        let Some((name, _)) = word.split_once('=') else { continue };
        let name = name.strip_suffix('+').unwrap_or(name);
        let is_name = name.starts_with(is_name_start) && name.chars().all(is_part);
        if is_name && !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
    }
    names
}

/// The keys of the `-D` options anywhere in `raw`, each once.
pub(super) fn defined(raw: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for (at, _) in raw.match_indices("-D") {
        let before = raw.get(..at).and_then(|before| before.chars().next_back());
        let rest = raw.get(at + 2..).unwrap_or("");
        let ends = |c: char| c.is_whitespace() || "=\"'`;&|()$\\".contains(c);
        let key = rest.split(ends).next().unwrap_or("");
        let begins = before.is_none_or(|c| c.is_whitespace() || "\"'`=-".contains(c));
        if begins && !key.is_empty() && !keys.iter().any(|known| known == key) {
            keys.push(key.to_string());
        }
    }
    keys
}
