//! JAAS login configuration files (`com.sun.security.auth.login.ConfigFile`): the users of SASL.
//!
//! The grammar is Java's `StreamTokenizer` as that class sets it up: words start with a letter,
//! `$`, `_` or `*` and go on with digits, `.` and `-` too; everything else needs double quotes.
//! Not done: `${property}` expansion, which is refused rather than taken literally.

use std::fmt;

/// A whole file: its sections in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Jaas {
    /// Invariant: names are distinct.
    pub sections: Vec<JaasSection>,
}

impl Jaas {
    /// The section `name` if it is there and lists a module.
    pub fn section(&self, name: &str) -> Option<&JaasSection> {
        self.sections.iter().find(|s| s.name == name && !s.modules.is_empty())
    }
}

/// One named entry, such as `Server`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JaasSection {
    /// Login context name.
    pub name: String,
    /// Login modules in order.
    pub modules: Vec<JaasModule>,
}

/// One login module with its options.
#[derive(Clone, PartialEq, Eq)]
pub struct JaasModule {
    /// Java class name.
    pub class: String,
    /// `required`, `requisite`, `sufficient` or `optional`, in lower case.
    pub flag: String,
    /// Options; of a repeated key only the last value is kept.
    pub options: Vec<(String, String)>,
}

impl fmt::Debug for JaasModule {
    /// Leaves the option values out: they are passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.options.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("JaasModule")
            .field("class", &self.class)
            .field("flag", &self.flag)
            .field("option_keys", &keys)
            .finish()
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JaasError {
    /// Line, from 1.
    pub line: u32,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl fmt::Display for JaasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JAAS configuration, line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for JaasError {}

/// Reads the text of a JAAS file.
pub fn parse_jaas(text: &str) -> Result<Jaas, JaasError> {
    let mut lexer = Lexer { rest: text, line: 1 };
    let mut jaas = Jaas::default();
    loop {
        let section = match lexer.next()? {
            Token::End => return Ok(jaas),
            Token::Text(name) => parse_section(&mut lexer, name)?,
            Token::Mark(c) => return Err(lexer.expected("a section name", &Token::Mark(c))),
        };
        if jaas.sections.iter().any(|s| s.name == section.name) {
            let message = format!("section '{}' is there twice; join the two", section.name);
            return Err(lexer.error(message));
        }
        jaas.sections.push(section);
    }
}

fn parse_section(lexer: &mut Lexer<'_>, name: String) -> Result<JaasSection, JaasError> {
    lexer.mark('{', "after the section name")?;
    let mut modules = Vec::new();
    loop {
        match lexer.next()? {
            Token::Mark('}') => break,
            Token::Text(class) => modules.push(parse_module(lexer, class)?),
            other => return Err(lexer.expected("a login module class or '}'", &other)),
        }
    }
    lexer.mark(';', "after the '}' of a section")?;
    Ok(JaasSection { name, modules })
}

fn parse_module(lexer: &mut Lexer<'_>, class: String) -> Result<JaasModule, JaasError> {
    let flag = lexer.text("a control flag (required, requisite, sufficient, optional)")?;
    let flag = flag.to_ascii_lowercase();
    if !["required", "requisite", "sufficient", "optional"].contains(&flag.as_str()) {
        let message = format!(
            "'{flag}' is no control flag; write required, requisite, sufficient or optional"
        );
        return Err(lexer.error(message));
    }
    let mut options: Vec<(String, String)> = Vec::new();
    loop {
        let key = match lexer.next()? {
            Token::Mark(';') => break,
            Token::Text(key) => key,
            other => return Err(lexer.expected("an option name, or ';' after the last", &other)),
        };
        lexer.mark('=', "after an option name (quote names with unusual characters)")?;
        let value = lexer.text("an option value in double quotes")?;
        if value.contains("${") {
            let message = format!(
                "the value of '{key}' uses ${{...}}, which is not expanded here; \
                 write the value out"
            );
            return Err(lexer.error(message));
        }
        options.retain(|(k, _)| *k != key);
        options.push((key, value));
    }
    Ok(JaasModule { class, flag, options })
}

/// A token; quoted and bare text are the same to the grammar.
#[derive(Debug)]
enum Token {
    Text(String),
    Mark(char),
    End,
}

struct Lexer<'a> {
    rest: &'a str,
    line: u32,
}

impl Lexer<'_> {
    fn error(&self, message: String) -> JaasError {
        JaasError { line: self.line, message }
    }

    /// Names only the kind of the found token if it is text: that may be a password.
    fn expected(&self, what: &str, found: &Token) -> JaasError {
        self.error(match found {
            Token::Text(_) => format!("expected {what}, found text"),
            Token::Mark(c) => format!("expected {what}, found {c:?}"),
            Token::End => format!("expected {what}, found the end of the file"),
        })
    }

    fn mark(&mut self, wanted: char, place: &str) -> Result<(), JaasError> {
        match self.next()? {
            Token::Mark(c) if c == wanted => Ok(()),
            other => Err(self.expected(&format!("'{wanted}' {place}"), &other)),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, JaasError> {
        match self.next()? {
            Token::Text(text) => Ok(text),
            other @ (Token::Mark(_) | Token::End) => Err(self.expected(what, &other)),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn next(&mut self) -> Result<Token, JaasError> {
        self.skip_blank()?;
        let Some(c) = self.rest.chars().next() else { return Ok(Token::End) };
        if c == '"' {
            self.bump();
            return self.quoted();
        }
        if !is_word_start(c) {
            self.bump();
            return Ok(Token::Mark(c));
        }
        let end = self.rest.find(|c| !is_word_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let word = word.to_owned();
        self.rest = rest;
        Ok(Token::Text(word))
    }

    /// Skips blanks and both kinds of comment.
    fn skip_blank(&mut self) -> Result<(), JaasError> {
        loop {
            let Some(c) = self.rest.chars().next() else { return Ok(()) };
            if c <= ' ' {
                self.bump();
            } else if self.rest.starts_with("//") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.rest = &self.rest[end..];
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                let Some((inside, rest)) = comment.split_once("*/") else {
                    return Err(self.error("a comment /* is never closed".to_owned()));
                };
                let lines = inside.bytes().filter(|b| *b == b'\n').count();
                self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
                self.rest = rest;
            } else if c == '/' {
                return Err(self.error("a '/' outside quotes; put the value in quotes".to_owned()));
            } else {
                return Ok(());
            }
        }
    }

    /// The rest of a quoted string, with Java's escapes.
    fn quoted(&mut self) -> Result<Token, JaasError> {
        let mut text = String::new();
        loop {
            match self.rest.chars().next() {
                None | Some('\n' | '\r') => {
                    return Err(self.error("a quoted string is not closed on its line".to_owned()));
                }
                Some('"') => {
                    self.bump();
                    return Ok(Token::Text(text));
                }
                Some('\\') => {
                    self.bump();
                    text.extend(self.escape());
                }
                Some(c) => {
                    self.bump();
                    text.push(c);
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let c = self.bump()?;
        Some(match c {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            '0'..='7' => {
                // Up to three octal digits, at most \377.
                let digits_max = if c <= '3' { 3 } else { 2 };
                let mut value = c.to_digit(8).unwrap_or(0);
                for _ in 1..digits_max {
                    let Some(d) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    self.bump();
                    value = value * 8 + d;
                }
                char::from_u32(value)?
            }
            other => other,
        })
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '$' | '_' | '*') || c >= '\u{a0}'
}

fn is_word_part(c: char) -> bool {
    is_word_start(c) || c.is_ascii_digit() || matches!(c, '.' | '-')
}
