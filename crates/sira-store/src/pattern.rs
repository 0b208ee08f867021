//! Patterns of keys.

use std::fmt;
use std::str::FromStr;

use crate::error::{Result, StorageError};

/// A pattern that keys match whole: `*` stands for any characters, `/` included, `?` for one,
/// `[abc]`, `[a-z]` and `[!a-z]` for one of a set, and `\` takes the meaning from what follows.
///
/// ```
/// use sira_store::pattern::KeyPattern;
///
/// let pattern: KeyPattern = "cache:*".parse()?;
/// assert!(pattern.matches("cache:user/7"));
/// assert!(!pattern.matches("data:user/7"));
/// assert_eq!(pattern.prefix(), "cache:");
/// # Ok::<_, sira_store::StorageError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPattern {
    text: String,
    tokens: Vec<Token>,
    prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Many,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl KeyPattern {
    /// The pattern that every key matches.
    #[must_use]
    pub fn any() -> Self {
        Self { text: "*".to_owned(), tokens: vec![Token::Many], prefix: String::new() }
    }

    /// What every key that matches begins with.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Characters that stand for themselves: of two patterns that match a key, the one with more of
    /// them says more about it.
    #[must_use]
    pub fn literals(&self) -> usize {
        self.tokens.iter().filter(|token| matches!(token, Token::Char(_))).count()
    }

    /// Whether a key matches, in time linear in the key for each `*`.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(self.prefix.as_str()) else { return false };
        let tokens = self.tokens.get(self.prefix.chars().count()..).unwrap_or_default();
        let (mut at, mut text) = (0, rest);
        // Where to go on when what follows the last `*` does not fit.
        let mut retry: Option<(usize, &str)> = None;
        loop {
            let mut chars = text.chars();
            match (tokens.get(at), chars.next()) {
                (None, None) => return true,
                (Some(Token::Many), _) => {
                    retry = Some((at, text));
                    at += 1;
                    continue;
                }
                (Some(token), Some(found)) if token.takes(found) => {
                    (at, text) = (at + 1, chars.as_str());
                    continue;
                }
                _ => {}
            }
            let Some((star, from)) = retry else { return false };
            let mut chars = from.chars();
            if chars.next().is_none() {
                return false;
            }
            retry = Some((star, chars.as_str()));
            (at, text) = (star + 1, chars.as_str());
        }
    }
}

impl Token {
    fn takes(&self, found: char) -> bool {
        match self {
            Self::Char(expected) => *expected == found,
            Self::One => true,
            Self::Many => false,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&found)) != *negated
            }
        }
    }
}

impl FromStr for KeyPattern {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(StorageError::invalid_input("a pattern must have at least one character"));
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(next) = chars.next() {
            let token = match next {
                '*' if tokens.last() == Some(&Token::Many) => continue,
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().ok_or_else(|| {
                    wrong(text, "it ends with a `\\`; write `\\\\` for the character itself")
                })?),
                '[' => set(text, &mut chars)?,
                literal => Token::Char(literal),
            };
            tokens.push(token);
        }
        let literal = |token: &Token| match token {
            Token::Char(literal) => Some(*literal),
            Token::One | Token::Many | Token::Set { .. } => None,
        };
        let prefix = tokens.iter().map_while(literal).collect();
        Ok(Self { text: text.to_owned(), tokens, prefix })
    }
}

fn set(text: &str, chars: &mut std::str::Chars<'_>) -> Result<Token> {
    let unclosed = || wrong(text, "a `[` has no `]`; write `\\[` for the character itself");
    let (mut negated, mut ranges) = (false, Vec::new());
    let mut next = chars.next().ok_or_else(unclosed)?;
    if next == '!' {
        negated = true;
        next = chars.next().ok_or_else(unclosed)?;
    }
    loop {
        if next == ']' {
            if ranges.is_empty() {
                return Err(wrong(
                    text,
                    "a `[]` stands for nothing; write `\\[` for the character",
                ));
            }
            return Ok(Token::Set { negated, ranges });
        }
        let from = match next {
            '\\' => chars.next().ok_or_else(unclosed)?,
            literal => literal,
        };
        next = chars.next().ok_or_else(unclosed)?;
        let mut to = from;
        if next == '-' {
            let end = chars.next().ok_or_else(unclosed)?;
            if end == ']' {
                ranges.push((from, from));
                ranges.push(('-', '-'));
                next = end;
                continue;
            }
            to = end;
            next = chars.next().ok_or_else(unclosed)?;
        }
        if to < from {
            return Err(wrong(text, "a range of characters ends before it begins"));
        }
        ranges.push((from, to));
    }
}

fn wrong(text: &str, why: &str) -> StorageError {
    StorageError::invalid_input(format!("the pattern {text:?} cannot be read: {why}"))
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests;
