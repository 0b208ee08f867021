//! Records as documents.
//!
//! Fields: `k` place and key, `v` version, `x` expiry (absent where there is none), `s` size of the
//! value, `e` envelope and `b` body in base64. The engine indexes the first four.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sira_store::driver::{After, Expiry, Held, Listed, Part, Place, Record, Scan};
use sira_store::{Result, StorageError, StorageStats, Version};

use super::client::Answer;
use super::error;
use crate::signed;

/// A record's name in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// Place and key; the order of names of one place is that of the keys.
    full: String,
}

impl Name {
    pub(super) fn of(place: &Place, key: &str) -> Self {
        let mut full = prefix(place);
        full.push_str(key);
        Self { full }
    }

    /// The `_id`: as many bytes for every key, and nothing that a path would need to escape.
    pub(super) fn id(&self) -> String {
        let mut id = String::with_capacity(64);
        for byte in Sha256::digest(self.full.as_bytes()) {
            // Writing to a string does not fail.
            let _ = write!(id, "{byte:02x}");
        }
        id
    }
}

/// What every name of a place begins with. A namespace holds no slash.
fn prefix(place: &Place) -> String {
    format!("{}{}/", place.area.code(), place.namespace)
}

/// The version as the engine takes it from outside, if it does.
pub(super) fn external_version(version: Version) -> Option<i64> {
    i64::try_from(version.as_u64()).ok().filter(|version| *version > 0)
}

/// The document of a record, as JSON.
pub(super) fn of_record(name: &Name, record: &Record) -> Vec<u8> {
    let encoded = (record.envelope.len() + record.body.len()).div_ceil(3) * 4;
    let mut text = String::with_capacity(encoded + name.full.len() + 200);
    let version = signed::from_version(record.version);
    let size = signed::clamp(record.size);
    // Writing to a string does not fail.
    let _ = write!(text, "{{\"k\":{},\"v\":{version},\"s\":{size}", json!(name.full));
    if let Some(at) = record.expires_at_ms {
        let _ = write!(text, ",\"x\":{}", signed::clamp(at));
    }
    text.push_str(",\"e\":\"");
    STANDARD.encode_string(&record.envelope, &mut text);
    text.push_str("\",\"b\":\"");
    STANDARD.encode_string(&record.body, &mut text);
    text.push_str("\"}");
    text.into_bytes()
}

/// A document that was read, or the part of it that was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Found<'a> {
    found: bool,
    #[serde(rename = "_seq_no", default)]
    pub(super) sequence: u64,
    #[serde(rename = "_primary_term", default)]
    pub(super) term: u64,
    #[serde(rename = "_source", borrow)]
    source: Option<Source<'a>>,
}

#[derive(Debug, Deserialize)]
struct Source<'a> {
    v: i64,
    x: Option<u64>,
    #[serde(default)]
    s: u64,
    #[serde(borrow, default)]
    e: Cow<'a, str>,
    #[serde(borrow, default)]
    b: Cow<'a, str>,
}

impl Found<'_> {
    /// What a guard looks at.
    pub(super) fn held(&self) -> Result<Held> {
        let source = self.source()?;
        Ok(Held { version: signed::to_version(source.v), expires_at_ms: source.x })
    }

    /// The record, or the part of it that was asked for.
    pub(super) fn record(&self, part: &Part) -> Result<Record> {
        let source = self.source()?;
        let Held { version, expires_at_ms } = self.held()?;
        let body = match part {
            Part::Head => Bytes::new(),
            Part::Whole => bytes(&source.b)?,
            Part::Range(range) => {
                let body = bytes(&source.b)?;
                let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(body.len());
                body.slice(at(range.start)..at(range.end).max(at(range.start)))
            }
        };
        Ok(Record { version, expires_at_ms, size: source.s, envelope: bytes(&source.e)?, body })
    }

    fn source(&self) -> Result<&Source<'_>> {
        self.source.as_ref().ok_or_else(|| error::malformed("a document without its source"))
    }
}

fn bytes(text: &str) -> Result<Bytes> {
    STANDARD.decode(text).map(Bytes::from).map_err(error::malformed)
}

/// The document of an answer, if there is one.
pub(super) fn found(answer: &Answer) -> Result<Option<Found<'_>>> {
    let found: Found<'_> = serde_json::from_slice(&answer.body).map_err(error::malformed)?;
    Ok(Some(found).filter(|found| found.found))
}

/// The documents of an answer about several.
pub(super) fn found_many(answer: &Answer) -> Result<Vec<Option<Found<'_>>>> {
    #[derive(Deserialize)]
    struct Many<'a> {
        #[serde(borrow)]
        docs: Vec<One<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum One<'a> {
        #[serde(borrow)]
        Found(Found<'a>),
        Failed {
            error: Value,
        },
    }
    let many: Many<'_> = serde_json::from_slice(&answer.body).map_err(error::malformed)?;
    many.docs
        .into_iter()
        .map(|one| match one {
            One::Found(found) => Ok(Some(found).filter(|found| found.found)),
            One::Failed { error } => Err(StorageError::unavailable(format!(
                "OpenSearch could not read a document: {error}"
            ))),
        })
        .collect()
}

/// The body of a search for up to `size` keys of a scan that come after `after`.
pub(super) fn search(place: &Place, scan: &Scan, after: Option<&str>, size: usize) -> Vec<u8> {
    let query = json!({ "bool": { "filter": ranges(place, scan, after) } });
    let search = json!({
        "size": size,
        "query": query,
        "sort": [{ "k": "asc" }],
        "track_total_hits": false,
        "_source": false,
        "stored_fields": "_none_",
        "docvalue_fields": ["k", "v", "x", "s"],
    });
    search.to_string().into_bytes()
}

/// The names of a scan, those after `after`, as ranges of which all must hold. A range may have
/// bounds of any length, which the engine's own search by prefix may not.
fn ranges(place: &Place, scan: &Scan, after: Option<&str>) -> Vec<Value> {
    let place = prefix(place);
    let name = |key: &str| format!("{place}{key}");
    let first = name(&scan.prefix);
    let mut ranges = vec![json!({ "range": { "k": { "gte": first, "lt": beyond(&first) } } })];
    match (after, &scan.after) {
        (Some(after), _) => ranges.push(json!({ "range": { "k": { "gt": name(after) } } })),
        (None, Some(After::Key(key))) => {
            ranges.push(json!({ "range": { "k": { "gt": name(key) } } }));
        }
        (None, Some(After::Prefix(prefix))) => {
            ranges.push(json!({ "range": { "k": { "gte": beyond(&name(prefix)) } } }));
        }
        (None, None) => {}
    }
    ranges
}

/// The first text that comes after all that begin with this. Names of a place begin with a letter,
/// so there is one.
fn beyond(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // After the greatest character, what comes next is what comes after the text before it.
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            break;
        }
    }
    text
}

/// The keys that a search found.
pub(super) fn listed(answer: &Answer, place: &Place) -> Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Search {
        timed_out: bool,
        #[serde(rename = "_shards")]
        shards: Shards,
        hits: Hits,
    }
    #[derive(Deserialize)]
    struct Shards {
        failed: u64,
    }
    #[derive(Deserialize)]
    struct Hits {
        hits: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        fields: Fields,
    }
    #[derive(Deserialize)]
    struct Fields {
        k: [String; 1],
        v: [i64; 1],
        x: Option<[u64; 1]>,
        s: [u64; 1],
    }
    let search: Search = serde_json::from_slice(&answer.body).map_err(error::malformed)?;
    if search.timed_out || search.shards.failed > 0 {
        return Err(StorageError::unavailable(
            "a part of OpenSearch's index did not answer, and a listing would lack its keys",
        ));
    }
    let prefix = prefix(place);
    let hits = search.hits.hits.into_iter().map(|Hit { fields }| {
        let [name] = fields.k;
        let key = name.strip_prefix(&prefix).ok_or_else(|| error::malformed("a foreign name"))?;
        let ([version], [size]) = (fields.v, fields.s);
        let expiry = Expiry::from(fields.x.map(|[at]| at));
        let version = Some(signed::to_version(version));
        Ok(Listed { key: key.to_owned(), size, version, expiry })
    });
    hits.collect()
}

/// Figures of the answers about the index and the nodes' disks; what is left out is 0.
pub(super) fn stats(index: &Value, disk: &Value) -> StorageStats {
    let of = |path: &str| index.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let disks = disk.get("nodes").and_then(Value::as_object).map(|nodes| {
        let free = "/fs/total/available_in_bytes";
        nodes.values().filter_map(|node| node.pointer(free).and_then(Value::as_u64)).sum()
    });
    StorageStats {
        keys: of("/_all/primaries/docs/count"),
        live_bytes: 0,
        dead_bytes: 0,
        used_bytes: of("/_all/total/store/size_in_bytes"),
        available_bytes: disks,
        segments: 0,
        index_bytes: 0,
    }
}

#[cfg(test)]
mod tests;
