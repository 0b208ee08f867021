//! The configuration file: TOML, with errors that name line and column.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::nearest::nearest;
use super::settings::{SETTINGS, Setting};
use super::storage::{self, SECTIONS, StorageConfig};
use super::{Source, Sourced};
use crate::failure::{Failure, Outcome};

/// What a file says.
#[derive(Debug, Default)]
pub struct Parsed {
    /// Values by setting.
    pub values: Vec<(Setting, Sourced)>,
    /// What it says of storage.
    pub storage: StorageConfig,
    /// The same as it stands there.
    pub storage_shown: Vec<(String, Sourced)>,
    /// Everything that is wrong.
    wrong: Vec<Failure>,
    /// Backends that this program cannot open.
    not_compiled: Vec<Failure>,
}

/// Reads a file; the first thing that is wrong is the error.
///
/// # Errors
/// When the file cannot be read, is no TOML, or holds an unknown name or a value of another type.
pub fn read(path: &Path) -> Outcome<Parsed> {
    let mut parsed = parse(path, &load(path)?);
    if parsed.wrong.is_empty() { Ok(parsed) } else { Err(parsed.wrong.swap_remove(0)) }
}

/// Everything that is wrong with a file, values and backends that this program cannot open included.
///
/// # Errors
/// When the file cannot be read.
pub fn check(path: &Path) -> Outcome<Vec<Failure>> {
    judged(path).map(|(_, wrong)| wrong)
}

/// What a file says of storage.
///
/// # Errors
/// Everything that is wrong with the file, as [`check`] tells it.
pub fn read_storage(path: &Path) -> Result<StorageConfig, Vec<Failure>> {
    match judged(path) {
        Ok((storage, wrong)) if wrong.is_empty() => Ok(storage),
        Ok((_, wrong)) => Err(wrong),
        Err(unreadable) => Err(vec![unreadable]),
    }
}

fn judged(path: &Path) -> Outcome<(StorageConfig, Vec<Failure>)> {
    let Parsed { values, storage, mut wrong, not_compiled, .. } = parse(path, &load(path)?);
    wrong.extend(not_compiled);
    for (setting, value) in &values {
        let spec = setting.spec();
        if let Some(text) = &value.text
            && let Err(reason) = (spec.check)(text)
        {
            wrong.push(super::wrong_value(spec, value, &reason));
        }
    }
    Ok((storage, wrong))
}

fn load(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::io(format_args!("cannot read the configuration file {}", path.display()), &error)
            .hint(format!("sira config example > {}", path.display()))
    })
}

fn parse(path: &Path, text: &str) -> Parsed {
    let place = |offset: usize| place(path, text, offset);
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    let mut table = match DeTable::parse(text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let at = place(error.span().map_or(0, |span| span.start));
            wrong.push(Failure::usage(format!("{at}: {}", error.message())));
            return Parsed { wrong, ..Parsed::default() };
        }
    };
    let sections = SECTIONS.map(|name| storage::take(&mut table, name));
    let mut entries: Vec<(&Spanned<_>, &Spanned<_>)> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let name: &str = key.get_ref();
        let at = place(key.span().start);
        let Some(spec) = SETTINGS.iter().find(|spec| spec.key == name) else {
            wrong.push(unknown(&at, name));
            continue;
        };
        if spec.secret {
            let hint = "set SIRA_TOKEN, or name a file with token_file";
            wrong
                .push(Failure::usage(format!("{at}: {name} does not belong in a file")).hint(hint));
            continue;
        }
        let source = place(value.span().start);
        match (value.get_ref(), spec.number) {
            (DeValue::String(text), false) => {
                values.push((spec.setting, Sourced { text: Some(text.to_string()), source }));
            }
            (DeValue::Integer(number), true) if number.radix() == 10 => {
                let text = Some(number.as_str().replace('_', ""));
                values.push((spec.setting, Sourced { text, source }));
            }
            (other, number) => {
                let wanted = if number { "a number" } else { "a text in quotes" };
                let example = spec.default.unwrap_or(spec.example);
                let example = if number {
                    format!("{name} = {example}")
                } else {
                    format!("{name} = {example:?}")
                };
                wrong.push(
                    Failure::usage(format!(
                        "{source}: {name} is {wanted}, this is a {}",
                        other.type_str()
                    ))
                    .hint(example),
                );
            }
        }
    }
    let storage = storage::read(path, text, sections);
    wrong.extend(storage.wrong);
    Parsed {
        values,
        storage: storage.config,
        storage_shown: storage.shown,
        wrong,
        not_compiled: storage.not_compiled,
    }
}

fn unknown(at: &Source, name: &str) -> Failure {
    let failure = Failure::usage(format!("{at}: unknown setting {name:?}"));
    let keys = SETTINGS.iter().filter(|spec| !spec.secret).map(|spec| spec.key);
    match nearest(name, keys.chain(SECTIONS)) {
        Some(section) if SECTIONS.contains(&section) => failure.hint(format!("[{section}]")),
        Some(key) => failure.hint(format!("{key} = ...")),
        None => failure.hint("sira config example"),
    }
}

/// Where a byte of a file stands.
pub fn place(path: &Path, text: &str, offset: usize) -> Source {
    let (line, column) = line_and_column(text, offset);
    Source::File { path: path.to_owned(), line, column }
}

/// Line and column of a byte offset, both from 1; columns count characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
