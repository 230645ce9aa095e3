//! Words and operators of a shell script, as far as plain assignments need them.
//!
//! What only a shell can work out, such as `$(hostname)`, becomes [`Part::Unknown`]; it is skipped
//! as a whole, so that nothing within it is taken for a statement.

/// Deepest `${A:-${B:-...}}` that is read.
const NESTING_MAX: u32 = 8;

/// A piece of a word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Letters that stand on this line.
    Text { text: String, line: u32 },
    /// `$NAME` or `${NAME}`, or `${NAME:-default}`.
    Variable { name: String, default: Option<Vec<Part>> },
    /// What only a shell can work out.
    Unknown,
}

/// A word: what it is made of, and how it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
    pub(super) raw: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Word(Word),
    /// `&`, `|`, `(`, `)`, `<`, `>` or two of them, or `;;`.
    Operator(String),
    /// The end of a line, or a `;`.
    End,
}

/// Reads a script from its beginning to its end.
pub(super) struct Lexer {
    chars: Vec<char>,
    at: usize,
    /// Line of the next letter, counted from 1.
    pub(super) line: u32,
}

impl Lexer {
    pub(super) fn new(text: &str) -> Lexer {
        Lexer { chars: text.chars().collect(), at: 0, line: 1 }
    }

    /// The next token; `None` at the end of the script.
    pub(super) fn next_token(&mut self) -> Option<Token> {
        self.skip_blanks();
        let first = self.peek()?;
        match first {
            '\n' => {
                self.take();
                Some(Token::End)
            }
            ';' | '&' | '|' | '(' | ')' | '<' | '>' => {
                self.take();
                let is_double = !matches!(first, '(' | ')') && self.peek() == Some(first);
                if is_double {
                    self.take();
                }
                let operator = first.to_string().repeat(1 + usize::from(is_double));
                Some(if operator == ";" { Token::End } else { Token::Operator(operator) })
            }
            _ => Some(Token::Word(self.word())),
        }
    }

    /// Where the next token begins.
    pub(super) fn position(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// The script from `start` up to here.
    pub(super) fn since(&self, start: usize) -> String {
        self.chars.get(start..self.at).unwrap_or_default().iter().collect()
    }

    /// Goes to the end of the script.
    pub(super) fn skip_all(&mut self) {
        self.at = self.chars.len();
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        self.line = self.line.saturating_add(u32::from(c == '\n'));
        Some(c)
    }

    fn is_continuation(&self) -> bool {
        self.peek() == Some('\\') && self.chars.get(self.at + 1) == Some(&'\n')
    }

    fn skip_blanks(&mut self) {
        loop {
            if self.is_continuation() {
                self.take();
                self.take();
            } else if self.peek() == Some('#') {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.take();
                }
            } else if matches!(self.peek(), Some(' ' | '\t' | '\r')) {
                self.take();
            } else {
                return;
            }
        }
    }

    fn word(&mut self) -> Word {
        let start = self.at;
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' => break,
                '\'' => self.single_quoted(&mut parts),
                '"' => {
                    self.take();
                    self.expanded('"', &mut parts, 0);
                }
                // A home directory, if it begins the value.
                '~' if self.at.checked_sub(1).and_then(|at| self.chars.get(at)) == Some(&'=') => {
                    self.take();
                    parts.push(Part::Unknown);
                }
                _ => self.letter(false, &mut parts, 0),
            }
        }
        Word { parts, raw: self.since(start) }
    }

    fn single_quoted(&mut self, parts: &mut Vec<Part>) {
        self.take();
        loop {
            let line = self.line;
            match self.take() {
                Some('\'') => return,
                Some(c) => push(parts, c, line),
                None => return parts.push(Part::Unknown),
            }
        }
    }

    /// What stands before `end`, which is taken too: the rest of a quotation or of `${A:-`.
    fn expanded(&mut self, end: char, parts: &mut Vec<Part>, depth: u32) {
        // An empty quotation is a word.
        parts.push(Part::Text { text: String::new(), line: self.line });
        loop {
            match self.peek() {
                None => return parts.push(Part::Unknown),
                Some(c) if c == end => {
                    self.take();
                    return;
                }
                // Quotes within a default only keep blanks together.
                Some('"') => {
                    self.take();
                }
                Some(_) => self.letter(true, parts, depth),
            }
        }
    }

    /// One letter, or what a `$`, a backslash or a backtick begins.
    fn letter(&mut self, is_quoted: bool, parts: &mut Vec<Part>, depth: u32) {
        let line = self.line;
        match self.take() {
            Some('\\') => match self.peek() {
                Some('\n') => {
                    self.take();
                }
                // Within quotes a backslash stands for itself before any other letter.
                Some(c) if is_quoted && !matches!(c, '$' | '`' | '"' | '\\' | '}') => {
                    push(parts, '\\', line);
                }
                Some(c) => {
                    self.take();
                    push(parts, c, line);
                }
                None => push(parts, '\\', line),
            },
            Some('`') => {
                while self.take().is_some_and(|c| c != '`') {}
                parts.push(Part::Unknown);
            }
            Some('$') => self.dollar(parts, line, depth),
            Some(c) => push(parts, c, line),
            None => {}
        }
    }

    fn dollar(&mut self, parts: &mut Vec<Part>, line: u32, depth: u32) {
        match self.peek() {
            Some('(') => {
                self.skip_balanced('(', ')');
                parts.push(Part::Unknown);
            }
            Some('{') => self.braced(parts, depth),
            Some(c) if is_name_start(c) => {
                let name = self.name();
                parts.push(Part::Variable { name, default: None });
            }
            Some(c) if c.is_ascii_digit() || "@*#?-$!'".contains(c) => {
                // A quotation that follows is taken by itself.
                if c != '\'' {
                    self.take();
                }
                parts.push(Part::Unknown);
            }
            Some(_) | None => push(parts, '$', line),
        }
    }

    fn braced(&mut self, parts: &mut Vec<Part>, depth: u32) {
        let start = (self.at, self.line);
        self.take();
        let name = self.name();
        let has_colon = self.peek() == Some(':');
        let then = self.chars.get(self.at + usize::from(has_colon)).copied();
        if !name.is_empty() && self.peek() == Some('}') {
            self.take();
            parts.push(Part::Variable { name, default: None });
        } else if !name.is_empty() && has_colon && then == Some('-') && depth < NESTING_MAX {
            self.take();
            self.take();
            let mut default = Vec::new();
            self.expanded('}', &mut default, depth + 1);
            parts.push(Part::Variable { name, default: Some(default) });
        } else {
            (self.at, self.line) = start;
            self.skip_balanced('{', '}');
            parts.push(Part::Unknown);
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| is_name_start(*c) || c.is_ascii_digit()) {
            self.take();
            name.push(c);
        }
        name
    }

    /// Skips from an opening sign to the closing one that belongs to it.
    fn skip_balanced(&mut self, open: char, close: char) {
        let mut depth = 0u32;
        while let Some(c) = self.take() {
            match c {
                '\\' => {
                    self.take();
                }
                '\'' => while self.take().is_some_and(|c| c != '\'') {},
                _ if c == open => depth = depth.saturating_add(1),
                _ if c == close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}

pub(super) fn is_name_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

/// Adds a letter to the last part, if that is on the same line.
fn push(parts: &mut Vec<Part>, c: char, line: u32) {
    match parts.last_mut() {
        Some(Part::Text { text, line: last }) if *last == line => text.push(c),
        _ => parts.push(Part::Text { text: c.to_string(), line }),
    }
}
