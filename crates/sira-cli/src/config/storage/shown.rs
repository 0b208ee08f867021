//! The values of the sections as they are shown.

use toml::Spanned;
use toml::de::DeValue;

use super::reader::Reader;
use crate::config::Sourced;

/// Every value below an entry with its place. Keys that would hold a secret are refused elsewhere,
/// so no value is one.
pub fn values(
    reader: &Reader<'_>,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    into: &mut Vec<(usize, String, Sourced)>,
) {
    match value.get_ref() {
        DeValue::Table(table) => {
            for (key, value) in table {
                values(reader, &format!("{name}.{}", plain(key.get_ref())), value, into);
            }
        }
        DeValue::Array(list) if list.iter().any(|item| item.get_ref().is_table()) => {
            for (at, item) in list.iter().enumerate() {
                values(reader, &format!("{name}[{at}]"), item, into);
            }
        }
        other => {
            let offset = value.span().start;
            let source = reader.place(offset);
            into.push((offset, name.to_owned(), Sourced { text: Some(text(other)), source }));
        }
    }
}

/// A key as it is written between dots.
fn plain(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

fn text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.as_str().replace('_', ""),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let items: Vec<_> = list.iter().map(|item| text(item.get_ref())).collect();
            items.join(", ")
        }
        DeValue::Table(_) => String::new(),
    }
}
