//! Sections of a file, each read by serde, with the place of everything that is wrong.

use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use sira_backends::config::fields_of;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error, ValueDeserializer};

use super::super::Source;
use super::super::file::place;
use super::super::nearest::nearest;
use crate::failure::Failure;

/// A value of a file, and where its key stands.
pub type Entry<'i> = (usize, Spanned<DeValue<'i>>);

/// Reads sections, and gathers what is wrong with them.
#[derive(Debug)]
pub struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    /// What is wrong, in the order in which it was found, with the offset of its place.
    wrong: Vec<(usize, Failure)>,
}

impl<'a> Reader<'a> {
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, wrong: Vec::new() }
    }

    /// Where a byte of the file stands.
    pub fn place(&self, offset: usize) -> Source {
        place(self.path, self.text, offset)
    }

    /// Notes what is wrong at a byte of the file.
    pub fn fail(&mut self, offset: usize, message: &str) {
        self.fail_with(offset, message, None);
    }

    /// As [`Reader::fail`], with what mends it.
    pub fn fail_with(&mut self, offset: usize, message: &str, hint: Option<String>) {
        let mut failure = Failure::usage(format!("{}: {message}", self.place(offset)));
        failure.hint = hint;
        self.wrong.push((offset, failure));
    }

    /// What is wrong, in the order of the file.
    pub fn finish(mut self) -> Vec<Failure> {
        self.wrong.sort_by_key(|(offset, _)| *offset);
        self.wrong.into_iter().map(|(_, failure)| failure).collect()
    }

    /// The table that an entry is; anything else is wrong.
    pub fn table<'i>(&mut self, name: &str, entry: Entry<'i>) -> Option<(usize, DeTable<'i>)> {
        let (at, value) = entry;
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some((at, table)),
            other => {
                let kind = other.type_str();
                let hint = Some(format!("[{name}]"));
                self.fail_with(span.start, &format!("{name} is a section, this is a {kind}"), hint);
                None
            }
        }
    }

    /// The tables of an entry `[[name]]`.
    pub fn tables<'i>(&mut self, name: &str, entry: Entry<'i>) -> Vec<(usize, DeTable<'i>)> {
        let span = entry.1.span();
        let mut tables = Vec::new();
        let mut all = true;
        if let DeValue::Array(list) = entry.1.into_inner() {
            for item in list {
                let at = item.span().start;
                match item.into_inner() {
                    DeValue::Table(table) => tables.push((at, table)),
                    _ => all = false,
                }
            }
        } else {
            all = false;
        }
        if !all {
            let hint = Some(format!("[[{name}]]"));
            self.fail_with(span.start, &format!("{name} is a list of sections"), hint);
        }
        tables
    }

    /// Reads a section; `None` when something is wrong with it, which is noted.
    pub fn section<T: DeserializeOwned>(
        &mut self,
        name: &str,
        at: usize,
        table: DeTable<'_>,
    ) -> Option<T> {
        self.section_with(name, at, table, fields_of::<T>(), |section| T::deserialize(section))
    }

    /// As [`Reader::section`], of these keys and by `read`.
    pub fn section_with<'i, T>(
        &mut self,
        name: &str,
        at: usize,
        mut table: DeTable<'i>,
        keys: &[&str],
        read: impl Fn(ValueDeserializer<'i>) -> Result<T, Error>,
    ) -> Option<T> {
        let mut right = self.keys(name, &mut table, keys);
        loop {
            let section = Spanned::new(at..at, DeValue::Table(table.clone()));
            let error = match read(ValueDeserializer::from(section)) {
                Ok(value) => return right.then_some(value),
                Err(error) => error,
            };
            // One value that is wrong hides the others: it is taken out, and the rest read again.
            let guilty = error.span().and_then(|span| entry_at(&table, &span));
            let Some((key, offset)) = guilty else {
                // What was taken out may be what is missed now.
                if right {
                    self.fail(at, &format!("{name}: {}", error.message()));
                }
                return None;
            };
            self.fail(offset, &format!("{name}.{key}: {}", error.message()));
            table.remove(key.as_str());
            right = false;
        }
    }

    /// Takes out the keys that there are not, and says whether there were none. Keys of secrets are
    /// left to what reads the section.
    pub fn keys(&mut self, name: &str, table: &mut DeTable<'_>, keys: &[&str]) -> bool {
        let secret = |key: &str| keys.iter().any(|of| of.strip_suffix("_env") == Some(key));
        let known = |key: &str| keys.contains(&key) || secret(key);
        let unknown: Vec<(usize, String)> = table
            .keys()
            .filter(|key| !known(key.get_ref()))
            .map(|key| (key.span().start, key.get_ref().to_string()))
            .collect();
        for (offset, key) in &unknown {
            table.remove(key.as_str());
            self.unknown(*offset, &format!("{name}."), key, keys);
        }
        unknown.is_empty()
    }

    /// Notes a key that there is not, with the nearest one that there is. `prefix` is what stands
    /// before both.
    pub fn unknown(&mut self, offset: usize, prefix: &str, key: &str, keys: &[&str]) {
        let hint = match nearest(key, keys.iter().copied()) {
            Some(near) => format!("{prefix}{near}"),
            None => "sira config example".to_owned(),
        };
        self.fail_with(offset, &format!("unknown setting \"{prefix}{key}\""), Some(hint));
    }
}

/// Takes an entry out of a table.
pub fn take<'i>(table: &mut DeTable<'i>, key: &str) -> Option<Entry<'i>> {
    table.remove_entry(key).map(|(key, value)| (key.span().start, value))
}

/// The entry that a place is within, and where to point.
fn entry_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<(String, usize)> {
    let within = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    // A section's own place is that of its header: what stands below it lies elsewhere.
    fn holds(value: &Spanned<DeValue<'_>>, within: &impl Fn(Range<usize>) -> bool) -> bool {
        within(value.span())
            || match value.get_ref() {
                DeValue::Table(table) => {
                    table.iter().any(|(key, value)| within(key.span()) || holds(value, within))
                }
                DeValue::Array(list) => list.iter().any(|value| holds(value, within)),
                _ => false,
            }
    }
    table
        .iter()
        .find(|(key, value)| within(key.span()) || holds(value, &within))
        .map(|(key, _)| (key.get_ref().to_string(), span.start))
}
