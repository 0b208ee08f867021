//! `sira log dump` and `sira log tail`.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use clap::Args;
use serde::Serialize;
use sira_log::env::{Env, SystemEnv};
use sira_log::log::RecordRef;
use sira_log::{ContentKind, LogPosition, LogRecord, unpack_record};

use super::files::{self, SegmentFile, Step};
use super::{STORE_STEM, kind_name, parse_kind, stem_of};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, printable};
use crate::units::{parse_duration, timestamp};

/// Pause before the file is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// Which items are shown.
#[derive(Debug, Clone, Args)]
struct Filter {
    /// Only items of this kind; may be given more than once
    #[arg(long, value_parser = parse_kind, value_name = "KIND")]
    kind: Vec<ContentKind>,
    /// Only items younger than this: 15m, 12h, 7d
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    since: Option<Duration>,
    /// Show the records as they are framed, whatever is in them
    #[arg(long)]
    raw: bool,
}

/// Flags of `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    filter: Filter,
    /// Begin at this place, which earlier output named
    #[arg(long, value_name = "SEGMENT:OFFSET", value_parser = parse_position)]
    from: Option<LogPosition>,
    /// Only items of at least this sequence
    #[arg(long, value_name = "NUMBER")]
    sequence: Option<u64>,
    /// Stop after this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

/// Flags of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    filter: Filter,
    /// Begin with this many items that are there already
    #[arg(short = 'c', long, value_name = "COUNT", default_value_t = 10)]
    count: usize,
    /// Show those and stop
    #[arg(long)]
    no_follow: bool,
}

fn parse_position(text: &str) -> Result<LogPosition, String> {
    text.split_once(':')
        .and_then(|(segment, offset)| {
            Some(LogPosition { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
        })
        .ok_or_else(|| "write SEGMENT:OFFSET, such as 1:96".to_owned())
}

/// An item, or a record that is shown as it is framed.
#[derive(Debug, Clone, Serialize)]
struct Shown {
    segment: u32,
    offset: u64,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ms: Option<u64>,
    kind: String,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
}

impl Shown {
    fn item(item: &LogRecord) -> Self {
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let textual = matches!(item.kind, ContentKind::Text | ContentKind::Json);
        let text = textual.then(|| std::str::from_utf8(&item.data).ok()).flatten();
        Self {
            segment: item.position.segment,
            offset: item.position.offset,
            sequence: item.sequence,
            time: Some(timestamp(item.time_ms)),
            time_ms: Some(item.time_ms),
            kind: kind_name(item.kind).to_owned(),
            bytes: item.data.len() as u64,
            count: None,
            epoch: (item.epoch > 0).then_some(item.epoch),
            data: text.map(str::to_owned),
            data_base64: text.is_none().then(|| base64(&item.data)),
            metadata_base64: (!item.metadata.is_empty()).then(|| base64(&item.metadata)),
        }
    }

    fn record(record: &RecordRef<'_>) -> Self {
        Self {
            segment: record.position.segment,
            offset: record.position.offset,
            sequence: record.header.sequence,
            time: None,
            time_ms: None,
            kind: format!("{:#04x}", record.header.kind),
            bytes: record.frame_len,
            count: Some(record.header.count),
            epoch: None,
            data: None,
            data_base64: None,
            metadata_base64: None,
        }
    }

    fn text(&self) -> String {
        let Self { segment, offset, sequence, kind, bytes, .. } = self;
        let place = format!("{segment}:{offset}");
        match (&self.time, &self.data) {
            (Some(time), Some(data)) => {
                format!("{sequence}  {time}  {place}  {kind}  {}", printable(data))
            }
            (Some(time), None) => format!("{sequence}  {time}  {place}  {kind}  ({bytes} bytes)"),
            (None, _) => {
                let count = self.count.unwrap_or_default();
                format!("{sequence}  {place}  kind {kind}  {count} entries in {bytes} bytes")
            }
        }
    }
}

/// Walks the segments in order and turns records into what is shown.
struct Walk<'a> {
    root: &'a Path,
    stem: String,
    raw: bool,
    kinds: Vec<ContentKind>,
    since_ms: u64,
    current: Option<SegmentFile>,
    /// Segments up to this one are done.
    done: Option<u32>,
    /// Damage that was passed, for the exit code.
    damage: u64,
}

impl<'a> Walk<'a> {
    fn new(root: &'a Path, filter: &Filter) -> Outcome<Self> {
        let stem = stem_of(root)?;
        let age = filter.since.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        Ok(Self {
            root,
            raw: filter.raw || stem == STORE_STEM,
            stem,
            kinds: filter.kind.clone(),
            since_ms: age.map_or(0, |age| SystemEnv.now_ms().saturating_sub(age)),
            current: None,
            done: None,
            damage: 0,
        })
    }

    fn seek(&mut self, from: LogPosition) -> Outcome {
        let path = files::list(self.root, &self.stem)?.remove(&from.segment);
        let mut segment = match path {
            Some(path) => SegmentFile::open(from.segment, &path)?,
            None => None,
        }
        .ok_or_else(|| Failure::not_found(format!("there is no segment {}", from.segment)))?;
        segment.seek(from.offset);
        self.done = from.segment.checked_sub(1);
        self.current = Some(segment);
        Ok(())
    }

    /// What the next record holds; `None` at the end of what is there.
    fn next(&mut self, output: Output) -> Outcome<Option<Vec<Shown>>> {
        loop {
            let later = self.later_segment()?;
            if self.current.is_none() {
                let Some((id, path)) = later else { return Ok(None) };
                self.current = SegmentFile::open(id, &path)?;
                if self.current.is_none() {
                    // Removed, or being made: the next look tells.
                    if self.later_than(id)?.is_none() {
                        return Ok(None);
                    }
                    self.done = Some(id);
                }
                continue;
            }
            let Some(segment) = &mut self.current else { continue };
            // A segment with a later one is not written any more.
            let growing = later.is_none();
            let id = segment.id();
            match segment.next(growing)? {
                Step::Record(record) => {
                    let shown = select(&record, self.raw, &self.kinds, self.since_ms);
                    if !shown.is_empty() {
                        return Ok(Some(shown));
                    }
                }
                Step::Damage { start, end } => {
                    self.damage += 1;
                    output.note(&format!("damaged: segment {id}, bytes {start} to {end}"));
                }
                Step::End if growing => return Ok(None),
                Step::End => {
                    self.done = Some(id);
                    self.current = None;
                }
            }
        }
    }

    fn later_segment(&self) -> Outcome<Option<(u32, std::path::PathBuf)>> {
        let current = self.current.as_ref().map(SegmentFile::id);
        match current.or(self.done) {
            Some(id) => self.later_than(id),
            None => Ok(files::list(self.root, &self.stem)?.pop_first()),
        }
    }

    fn later_than(&self, id: u32) -> Outcome<Option<(u32, std::path::PathBuf)>> {
        let segments = files::list(self.root, &self.stem)?;
        Ok(segments.into_iter().find(|(other, _)| *other > id))
    }

    fn finish(&self) -> Outcome {
        if self.damage == 0 {
            return Ok(());
        }
        Err(Failure::fatal(format!("{} ranges are damaged", self.damage))
            .hint(format!("sira log verify --root {}", self.root.display())))
    }
}

fn select(record: &RecordRef<'_>, raw: bool, kinds: &[ContentKind], since_ms: u64) -> Vec<Shown> {
    if ContentKind::from_u8(record.header.kind).is_none() && !raw {
        return Vec::new();
    }
    let items = if raw { None } else { unpack_record(record) };
    match items {
        Some(items) => items
            .iter()
            .filter(|item| kinds.is_empty() || kinds.contains(&item.kind))
            .filter(|item| item.time_ms >= since_ms)
            .map(Shown::item)
            .collect(),
        None => vec![Shown::record(record)],
    }
}

/// Prints what is in the log.
///
/// # Errors
/// Exit code 7 when something in between was damaged.
pub fn dump(root: &Path, output: Output, args: &DumpArgs) -> Outcome {
    let mut walk = Walk::new(root, &args.filter)?;
    if let Some(from) = args.from {
        walk.seek(from)?;
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    while left > 0
        && let Some(shown) = walk.next(output)?
    {
        let wanted = shown.iter().filter(|one| args.sequence.is_none_or(|min| one.sequence >= min));
        for one in wanted.take(usize::try_from(left).unwrap_or(usize::MAX)) {
            output.result(one, || one.text())?;
            left -= 1;
        }
    }
    walk.finish()
}

/// Prints the end of the log and what comes.
///
/// # Errors
/// When the files cannot be read.
pub fn tail(root: &Path, output: Output, args: &TailArgs) -> Outcome {
    let mut walk = Walk::new(root, &args.filter)?;
    let mut last = VecDeque::new();
    while let Some(shown) = walk.next(output)? {
        last.extend(shown);
        while last.len() > args.count {
            last.pop_front();
        }
    }
    for one in &last {
        output.result(one, || one.text())?;
    }
    if args.no_follow {
        return walk.finish();
    }
    loop {
        match walk.next(output)? {
            Some(shown) => shown.iter().try_for_each(|one| output.result(one, || one.text()))?,
            None => SystemEnv.sleep(POLL),
        }
    }
}
