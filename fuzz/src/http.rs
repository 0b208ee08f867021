//! What the HTTP door reads out of requests: keys, queries, ranges, conditions, options, bodies.

use http::{HeaderMap, HeaderName, HeaderValue};
use sira_server::http::batch::BatchRequest;
use sira_server::http::conditions::{ReadConditions, WriteCondition, range_applies};
use sira_server::http::range::{ByteRange, Resolved};
use sira_server::http::ttl::{parse_durability, parse_ttl};
use sira_server::http::{path, query, write};
use sira_server::limits::TTL_SECONDS_MAX;
use sira_store::limits::{KEY_BYTES_MAX, NAMESPACE_BYTES_MAX};
use sira_store::{Condition, Durability, Metadata, ObjectHead, Version};

use crate::Input;

/// Words of requests.
pub const WORDS: &[&[u8]] = &[
    b"bytes=",
    b"0-",
    b"-1",
    b"18446744073709551615",
    b"99999999999999999999",
    b"%2F",
    b"%00",
    b"%ff",
    b"%",
    b"+",
    b"&",
    b"=",
    b"/",
    b"prefix=",
    b"delimiter=%2F",
    b"limit=10",
    b"if-match: ",
    b"if-none-match: ",
    b"if-range: ",
    b"W/\"",
    b"\"0190f3c2a1b40000\"",
    b"*",
    b"sira-ttl: ",
    b"sira-durability: ",
    b"interval:5",
    b"sira-meta-a: ",
    b"content-type: ",
    b"\n",
    b"if-modified-since: ",
    b"if-unmodified-since: ",
    b"Tue, 14 Nov 2023 22:13:20 GMT",
    b"7d",
    b"0.5",
    b"500ms",
    b"1e9",
    b"{\"operations\":[",
    b"]}",
    b"{\"op\":\"put\",\"key\":\"a\"",
    b"{\"op\":\"get\",\"key\":\"a\"}",
    b",\"value\":\"b\"}",
    b",\"value_base64\":\"YQ==\"}",
    b",\"ttl_seconds\":1.5",
    b",\"if_absent\":true",
    b",\"if_match\":\"0190f3c2a1b40000\"",
    b",\"metadata\":{\"a\":\"b\"}",
];

/// ```text
/// | which 1 | text |
/// ```
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 6 {
        0 => with_text(input, range),
        1 => with_text(input, times),
        2 => with_text(input, keys),
        3 => with_text(input, queries),
        4 => headers(input),
        _ => batch(input.rest()),
    }
}

fn with_text(input: Input<'_>, target: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(input.rest()) {
        target(text);
    }
}

fn range(text: &str) {
    let Some(range) = ByteRange::parse(text) else { return };
    for size in [0, 1, 10, 1 << 40, u64::MAX] {
        if let Resolved::Satisfiable(bytes) = range.resolve(size) {
            assert!(bytes.start < bytes.end && bytes.end <= size, "{text:?} of {size}: {bytes:?}");
            let plain = format!("bytes={}-{}", bytes.start, bytes.end - 1);
            let again = ByteRange::parse(&plain).map(|range| range.resolve(size));
            assert_eq!(again, Some(Resolved::Satisfiable(bytes)), "{text:?} of {size}");
        }
    }
}

fn times(text: &str) {
    if let Ok(ttl) = parse_ttl(text) {
        assert!(!ttl.is_zero() && ttl.as_secs() <= TTL_SECONDS_MAX, "{text:?} is {ttl:?}");
    }
    if let Ok(durability) = parse_durability(text) {
        let again = match durability {
            Durability::Sync => "sync".to_owned(),
            Durability::None => "none".to_owned(),
            Durability::Interval(ms) => format!("interval:{ms}"),
        };
        assert_eq!(parse_durability(&again).ok(), Some(durability), "{text:?}");
    }
}

fn keys(text: &str) {
    if let Ok(key) = path::key(text) {
        assert!((1..=KEY_BYTES_MAX).contains(&key.len()));
        let encoded = path::encode_key(&key);
        assert!(encoded.is_ascii() && !encoded.contains(['?', '#', ' ']), "{encoded}");
        assert_eq!(path::key(&encoded).ok().as_ref(), Some(&key), "{encoded}");
    }
    if let Ok((namespace, key)) = path::namespace_and_key(text) {
        assert!((1..=NAMESPACE_BYTES_MAX).contains(&namespace.len()) && !namespace.contains('/'));
        let again = format!("{}/{}", path::encode_key(&namespace), path::encode_key(&key));
        assert_eq!(path::namespace_and_key(&again).ok(), Some((namespace, key)), "{again}");
    }
}

fn queries(text: &str) {
    let known = ["prefix", "delimiter", "start_after", "limit", "a b"];
    let mut pairs = Vec::new();
    let read = query::read(Some(text), &known, |name, value| {
        pairs.push((name.to_owned(), value));
        Ok(())
    });
    if read.is_err() {
        return;
    }
    let part = |(name, value): &(String, String)| {
        format!("{}={}", path::encode_key(name), path::encode_key(value))
    };
    let plain: Vec<String> = pairs.iter().map(part).collect();
    let mut again = Vec::new();
    let reread = query::read(Some(&plain.join("&")), &known, |name, value| {
        again.push((name.to_owned(), value));
        Ok(())
    });
    assert!(reread.is_ok() && again == pairs, "{text:?}");
}

/// Header fields, one a line.
fn headers(input: Input<'_>) {
    let mut headers = HeaderMap::new();
    for line in input.rest().split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        else {
            continue;
        };
        headers.append(name, value);
    }
    let versions = [
        Version::from_u64(1),
        Version::from_u64(0x0190_f3c2_a1b4_0000),
        Version::from_u64(u64::MAX),
    ];
    let reads = ReadConditions::read(&headers);
    let writes = WriteCondition::read(&headers);
    for version in versions {
        if let Ok(reads) = &reads {
            let _ = reads.evaluate(version);
        }
        let _ = range_applies(&headers, version);
        for current in [None, Some(version)] {
            // A condition that is pinned holds for the version that it was pinned to.
            if let Ok(condition) = &writes
                && !matches!(condition, WriteCondition::Engine(_))
                && let Some(pinned) = condition.pin(current)
            {
                assert!(pinned.holds(current), "{condition:?} on {current:?}: {pinned:?}");
            }
        }
    }
    if let Ok(options) = write::options(&headers, Durability::Sync) {
        answered(options.metadata);
    }
}

/// Metadata that came in header fields goes back in header fields.
fn answered(metadata: Metadata) {
    let encoded = metadata.encode();
    if let Ok(encoded) = &encoded {
        assert_eq!(Metadata::decode(encoded).ok().as_ref(), Some(&metadata));
    }
    let head = ObjectHead {
        version: Version::from_u64(1),
        size: 0,
        expires_at_ms: None,
        metadata: metadata.clone(),
    };
    let mut answer = HeaderMap::new();
    write::put_head(&mut answer, &head);
    let fields = |name: &HeaderName| name.as_str().starts_with(write::META_PREFIX);
    let mut asked: HeaderMap = HeaderMap::new();
    for (name, value) in answer.iter().filter(|(name, _)| fields(name)) {
        asked.append(name.clone(), value.clone());
    }
    let back = write::options(&asked, Durability::Sync).map(|options| options.metadata.user);
    assert_eq!(back.ok(), Some(metadata.user));
}

fn batch(body: &[u8]) {
    let Ok(batch) = serde_json::from_slice::<BatchRequest>(body) else { return };
    for operation in batch.operations {
        let Ok(operation) = operation.into_store(Durability::None) else { continue };
        if let sira_store::BatchOperation::Put { options, .. } = operation {
            assert!(
                options.ttl.is_none_or(|ttl| !ttl.is_zero() && ttl.as_secs() <= TTL_SECONDS_MAX)
            );
            let conditions = [Condition::Always, Condition::IfAbsent];
            let known = conditions.contains(&options.condition)
                || matches!(options.condition, Condition::IfMatch(_));
            assert!(known, "{:?}", options.condition);
        }
    }
}
