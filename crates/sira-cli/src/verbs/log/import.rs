//! `sira log import`: append items from a file or standard input.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use base64::Engine as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sira_log::disk::OsDisk;
use sira_log::{
    AppendOptions, ContentKind, LogDurability, LogItem, LogStorage, LogStorageOptions, log_stem,
};

use super::{STORE_STEM, log_failure, parse_kind};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::verbs::local;

/// Lines, and bytes of them, that are appended as one frame.
const BATCH_LINES: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;
/// Longest line, in bytes.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// What the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Each line is a text item.
    Lines,
    /// Each line is a JSON item.
    Json,
    /// What `sira log dump --json` prints.
    Dump,
    /// All of it is one binary item; it may be larger than memory.
    Binary,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The input; `-` or nothing reads standard input
    #[arg(default_value = "-")]
    file: String,
    /// What the input is
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    format: Format,
}

#[derive(Serialize)]
struct Imported {
    verb: &'static str,
    root: String,
    items: u64,
    bytes: u64,
}

/// An item as `sira log dump --json` prints it.
#[derive(Deserialize)]
struct DumpedItem {
    kind: String,
    time_ms: u64,
    data: Option<String>,
    data_base64: Option<String>,
    metadata_base64: Option<String>,
}

/// Appends the input to the log in `root`, which is made if it is not there.
///
/// # Errors
/// Exit code 2 for input that is not of its format; what came before it is in the log.
pub fn run(root: &Path, output: Output, args: &ImportArgs) -> Outcome {
    let body = local::open_body(&args.file)?;
    let mut options = LogStorageOptions::new(root);
    if root.join(".metadata").is_dir() {
        options.stem = log_stem(&OsDisk, root).map_err(log_failure)?;
    }
    if options.stem == STORE_STEM {
        return Err(Failure::usage(format!(
            "{} holds a store, not a log of items",
            root.display()
        ))
        .hint(format!("sira put KEY {} --root {}", args.file, root.display())));
    }
    let log = LogStorage::open(options).map_err(log_failure)?;
    let mut import = Import { log: &log, items: 0, bytes: 0 };
    let result = import.read(args.format, body.reader);
    // What was appended is made durable even where the input went wrong.
    let (items, bytes) = (import.items, import.bytes);
    log.sync().and_then(|()| log.close()).map_err(log_failure)?;
    result?;
    let record = Imported { verb: "log import", root: root.display().to_string(), items, bytes };
    output.done(&record, || format!("{}: {items} items, {bytes} bytes appended", record.root))
}

struct Import<'a> {
    log: &'a LogStorage,
    items: u64,
    bytes: u64,
}

impl Import<'_> {
    fn read(&mut self, format: Format, mut reader: Box<dyn Read + Send>) -> Outcome {
        if format == Format::Binary {
            let mut counted = Counted { reader: &mut *reader, bytes: 0 };
            self.log
                .append_stream(ContentKind::Binary, &[], &mut counted, &unsynced())
                .map_err(log_failure)?;
            self.items += 1;
            self.bytes += counted.bytes;
            return Ok(());
        }
        let mut lines = BufReader::new(reader);
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let (mut batch_bytes, mut number) = (0, 0_u64);
        while let Some(line) = next_line(&mut lines)? {
            number += 1;
            let at = |failure: Failure| failure.context(format_args!("line {number}"));
            match format {
                Format::Dump => self.dumped(&line).map_err(at)?,
                Format::Json if line.trim_ascii().is_empty() => {}
                _ => {
                    check(format, &line).map_err(at)?;
                    batch_bytes += line.len();
                    batch.push(line);
                }
            }
            if batch.len() >= BATCH_LINES || batch_bytes >= BATCH_BYTES {
                self.append(format, &std::mem::take(&mut batch))?;
                batch_bytes = 0;
            }
        }
        self.append(format, &batch)
    }

    fn append(&mut self, format: Format, lines: &[Vec<u8>]) -> Outcome {
        if lines.is_empty() {
            return Ok(());
        }
        let kind = if format == Format::Json { ContentKind::Json } else { ContentKind::Text };
        let items: Vec<LogItem<'_>> =
            lines.iter().map(|line| LogItem { kind, metadata: &[], data: line }).collect();
        self.log.append_batch(&items, &unsynced()).map_err(log_failure)?;
        self.items += items.len() as u64;
        self.bytes += lines.iter().map(|line| line.len() as u64).sum::<u64>();
        Ok(())
    }

    fn dumped(&mut self, line: &[u8]) -> Outcome {
        let item: DumpedItem = serde_json::from_slice(line).map_err(|error| {
            Failure::usage(format!("not an item of `sira log dump --json`: {error}"))
        })?;
        let decode = |text: Option<String>| {
            base64::engine::general_purpose::STANDARD
                .decode(text.unwrap_or_default())
                .map_err(|error| Failure::usage(format!("not Base64: {error}")))
        };
        let data = match item.data {
            Some(text) => text.into_bytes(),
            None => decode(item.data_base64)?,
        };
        let metadata = decode(item.metadata_base64)?;
        let kind = parse_kind(&item.kind).map_err(Failure::usage)?;
        let options = AppendOptions { time_ms: Some(item.time_ms), ..unsynced() };
        let new = LogItem { kind, metadata: &metadata, data: &data };
        self.log.append(new, &options).map_err(log_failure)?;
        self.items += 1;
        self.bytes += data.len() as u64;
        Ok(())
    }
}

/// One sync at the end serves all.
fn unsynced() -> AppendOptions<'static> {
    AppendOptions { durability: Some(LogDurability::None), ..AppendOptions::default() }
}

fn check(format: Format, line: &[u8]) -> Outcome {
    match format {
        Format::Lines if std::str::from_utf8(line).is_err() => {
            Err(Failure::usage("not UTF-8").hint("--format binary takes any bytes as one item"))
        }
        Format::Json => serde_json::from_slice::<serde::de::IgnoredAny>(line)
            .map(drop)
            .map_err(|error| Failure::usage(format!("not JSON: {error}"))),
        _ => Ok(()),
    }
}

/// The next line without its end; `None` at the end of the input.
fn next_line(reader: &mut dyn BufRead) -> Outcome<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = reader
        .take(LINE_BYTES_MAX + 1)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::io("cannot read the input", &error))?;
    if count == 0 {
        return Ok(None);
    }
    if line.len() as u64 > LINE_BYTES_MAX {
        return Err(Failure::usage(format!("a line is longer than {LINE_BYTES_MAX} bytes"))
            .hint("--format binary takes all of the input as one item"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}

struct Counted<'a> {
    reader: &'a mut dyn Read,
    bytes: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
