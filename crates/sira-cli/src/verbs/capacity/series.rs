//! Series of numbers in files: CSV and JSON lines.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Most buckets that events are spread over.
const BUCKETS_MAX: f64 = 1e6;

/// The field of an object that is taken where none is named.
const FIELD: &str = "value";

/// What of a file is the series.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    /// Name or number of the column.
    pub column: Option<&'a str>,
    /// Lines are events: the column with their time, and the length of a bucket.
    pub events: Option<(&'a str, f64)>,
}

/// A line of the file.
enum Row<'a> {
    Cells(Vec<&'a str>),
    Object(serde_json::Map<String, Value>),
    Number(Option<f64>),
}

/// Reads the series of a file; `-` is standard input.
///
/// # Errors
/// When it cannot be read, or a line is no sample.
pub fn read(path: &Path, selection: Selection<'_>) -> Outcome<Vec<Option<f64>>> {
    let mut text = String::new();
    let name = path.display().to_string();
    let unreadable = |error| Failure::io(format_args!("cannot read {name}"), &error);
    let read = if name == "-" {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)
    };
    read.map_err(unreadable)?;
    parse(&text, selection).map_err(|wrong| Failure::usage(format!("{name}: {wrong}")))
}

/// Reads the series of a text.
pub(super) fn parse(text: &str, selection: Selection<'_>) -> Result<Vec<Option<f64>>, String> {
    let mut header: Option<Vec<&str>> = None;
    let mut values = Vec::new();
    let mut events = Vec::new();
    let is_content = |line: &str| !line.is_empty() && !line.starts_with('#');
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    for (number, line) in lines.filter(|(_, line)| is_content(line)) {
        let row = row(line).map_err(|wrong| format!("line {number}: {wrong}"))?;
        if let Row::Cells(cells) = &row
            && header.is_none()
            && values.is_empty()
            && events.is_empty()
            && cells.iter().any(|cell| cell_number(cell).is_err())
        {
            header = Some(cells.clone());
            continue;
        }
        let header = header.as_deref();
        let told = |wrong: String| format!("line {number}: {wrong}");
        match selection.events {
            Some((time, _)) => {
                let time = find(&row, header, Some(time)).map_err(told)?;
                let time = time.ok_or_else(|| told("an event has a time".to_owned()))?;
                let weight = match selection.column {
                    Some(column) => find(&row, header, Some(column)).map_err(told)?.unwrap_or(0.0),
                    None => 1.0,
                };
                events.push((time, weight));
            }
            None => values.push(find(&row, header, selection.column).map_err(told)?),
        }
    }
    match selection.events {
        Some((_, length)) => buckets(&events, length),
        None => Ok(values),
    }
}

fn row(line: &str) -> Result<Row<'_>, String> {
    if line.starts_with('{') {
        let object = serde_json::from_str(line).map_err(|error| error.to_string())?;
        return Ok(Row::Object(object));
    }
    let separator = [',', ';', '\t'].into_iter().find(|separator| line.contains(*separator));
    match separator {
        Some(separator) => {
            let cells = line.split(separator).map(|cell| cell.trim().trim_matches('"'));
            Ok(Row::Cells(cells.collect()))
        }
        None => match cell_number(line) {
            Ok(number) => Ok(Row::Number(number)),
            Err(_) => Ok(Row::Cells(vec![line.trim_matches('"')])),
        },
    }
}

/// The number of a cell; `None` for a gap.
fn cell_number(cell: &str) -> Result<Option<f64>, String> {
    if ["", "null", "na", "nan", "-"].contains(&cell.to_ascii_lowercase().as_str()) {
        return Ok(None);
    }
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(Some(number)),
        _ => Err(format!("{cell:?} is no number")),
    }
}

fn find(
    row: &Row<'_>,
    header: Option<&[&str]>,
    column: Option<&str>,
) -> Result<Option<f64>, String> {
    match row {
        Row::Number(number) => match column {
            None | Some("1") => Ok(*number),
            Some(column) if header == Some(&[column]) => Ok(*number),
            Some(column) => Err(format!("there is no column {column:?}")),
        },
        Row::Object(object) => {
            let field = column.unwrap_or(FIELD);
            match object.get(field) {
                Some(Value::Null) => Ok(None),
                Some(value) => {
                    value.as_f64().map(Some).ok_or_else(|| format!("{field:?} is no number"))
                }
                None => Err(format!("there is no field {field:?}: name one with --column")),
            }
        }
        Row::Cells(cells) => {
            let place = match column {
                None => cells.len().checked_sub(1),
                Some(column) => {
                    let named = header.and_then(|names| names.iter().position(|it| *it == column));
                    let number = || column.parse::<usize>().ok().and_then(|it| it.checked_sub(1));
                    named.or_else(number)
                }
            };
            let cell = place.and_then(|place| cells.get(place));
            let cell =
                cell.ok_or_else(|| format!("there is no column {:?}", column.unwrap_or("1")))?;
            cell_number(cell)
        }
    }
}

/// What events add up to in each bucket from the first to the last; nothing is no gap there.
fn buckets(events: &[(f64, f64)], length: f64) -> Result<Vec<Option<f64>>, String> {
    if !(length.is_finite() && length > 0.0) {
        return Err("the length of a bucket is more than 0".to_owned());
    }
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (time, weight) in events {
        *sums.entry((time / length).floor() as i64).or_default() += weight;
    }
    let (Some(first), Some(last)) = (sums.keys().next(), sums.keys().next_back()) else {
        return Ok(Vec::new());
    };
    if last.abs_diff(*first) as f64 > BUCKETS_MAX {
        return Err(format!("there are more than {BUCKETS_MAX} buckets: make them longer"));
    }
    let of = |bucket| Some(sums.get(&bucket).copied().unwrap_or(0.0));
    Ok((*first..=*last).map(of).collect())
}

#[cfg(test)]
mod tests;
