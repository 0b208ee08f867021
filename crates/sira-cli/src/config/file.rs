//! The configuration file: TOML, with errors that name line and column.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, Setting};
use super::{Source, Sourced};
use crate::failure::{Failure, Outcome};

/// Values of a file, by setting.
pub type FileValues = Vec<(Setting, Sourced)>;

/// Reads a file; the first thing that is wrong is the error.
///
/// # Errors
/// When the file cannot be read, is no TOML, or holds an unknown name or a value of another type.
pub fn read(path: &Path) -> Outcome<FileValues> {
    let text = load(path)?;
    let (values, mut wrong) = parse(path, &text);
    if wrong.is_empty() { Ok(values) } else { Err(wrong.swap_remove(0)) }
}

/// Everything that is wrong with a file, values included.
///
/// # Errors
/// When the file cannot be read.
pub fn check(path: &Path) -> Outcome<Vec<Failure>> {
    let text = load(path)?;
    let (values, mut wrong) = parse(path, &text);
    for (setting, value) in &values {
        let spec = setting.spec();
        if let Some(text) = &value.text
            && let Err(reason) = (spec.check)(text)
        {
            wrong.push(super::wrong_value(spec, value, &reason));
        }
    }
    Ok(wrong)
}

fn load(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::io(format_args!("cannot read the configuration file {}", path.display()), &error)
            .hint(format!("sira config example > {}", path.display()))
    })
}

fn parse(path: &Path, text: &str) -> (FileValues, Vec<Failure>) {
    let place = |offset: usize| {
        let (line, column) = line_and_column(text, offset);
        Source::File { path: path.to_owned(), line, column }
    };
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = place(error.span().map_or(0, |span| span.start));
            wrong.push(Failure::usage(format!("{at}: {}", error.message())));
            return (values, wrong);
        }
    };
    let mut entries: Vec<(&Spanned<_>, &Spanned<_>)> = table.get_ref().iter().collect();
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
    (values, wrong)
}

fn unknown(at: &Source, name: &str) -> Failure {
    let failure = Failure::usage(format!("{at}: unknown setting {name:?}"));
    let nearest = SETTINGS
        .iter()
        .filter(|spec| !spec.secret)
        .map(|spec| (distance(&name.to_ascii_lowercase().replace('-', "_"), spec.key), spec.key))
        .min();
    match nearest {
        Some((distance, key)) if distance <= key.len() / 2 => failure.hint(format!("{key} = ...")),
        _ => failure.hint("sira config example"),
    }
}

/// Line and column of a byte offset, both from 1; columns count characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Edits (insert, remove, replace, swap of neighbours) that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row[j + 1] = best;
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests;
