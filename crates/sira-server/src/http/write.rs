//! Options of a write in header fields, and the fields that answer it.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, LAST_MODIFIED,
};
use sira_store::{Durability, Metadata, ObjectHead, StorageError, StorageOptions, Version};

use crate::http::conditions::{entity_tag, modified_seconds};
use crate::http::ttl::{parse_durability, parse_ttl};

/// Time to live of a write.
pub const SIRA_TTL: HeaderName = HeaderName::from_static("sira-ttl");

/// Durability of a write.
pub const SIRA_DURABILITY: HeaderName = HeaderName::from_static("sira-durability");

/// When an object expires, in milliseconds since the Unix epoch.
pub const SIRA_EXPIRES_AT_MS: HeaderName = HeaderName::from_static("sira-expires-at-ms");

/// Start of the names of the caller's own header fields.
pub const META_PREFIX: &str = "sira-meta-";

/// Reads the options of a write, all but its condition.
///
/// # Errors
/// [`StorageError::InvalidInput`], [`StorageError::Unsupported`] for an encoded or partial body.
pub fn options(
    headers: &HeaderMap,
    durability: Durability,
) -> Result<StorageOptions, StorageError> {
    if headers.contains_key(CONTENT_RANGE) {
        return Err(StorageError::unsupported(
            "objects are written whole; leave Content-Range out",
        ));
    }
    let encoding = single(headers, &CONTENT_ENCODING)?.unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(StorageError::unsupported(
            "Content-Encoding is not kept; send the bytes as they are to be read",
        ));
    }
    Ok(StorageOptions {
        ttl: single(headers, &SIRA_TTL)?.map(parse_ttl).transpose()?,
        durability: Some(self::durability(headers, durability)?),
        metadata: metadata(headers)?,
        ..StorageOptions::default()
    })
}

/// Reads the durability of a write; `default` where the request names none.
///
/// # Errors
/// [`StorageError::InvalidInput`].
pub fn durability(headers: &HeaderMap, default: Durability) -> Result<Durability, StorageError> {
    single(headers, &SIRA_DURABILITY)?.map_or(Ok(default), parse_durability)
}

/// What is kept beside the bytes.
fn metadata(headers: &HeaderMap) -> Result<Metadata, StorageError> {
    let mut user = BTreeMap::new();
    for (name, value) in headers {
        let Some(own) = name.as_str().strip_prefix(META_PREFIX) else { continue };
        let text = text(name, value)?;
        if own.is_empty() {
            return Err(StorageError::invalid_input("a Sira-Meta- header has no name"));
        }
        if user.insert(own.to_owned(), text.to_owned()).is_some() {
            return Err(StorageError::invalid_input(format!("{name} is given twice")));
        }
    }
    let content_type = single(headers, &CONTENT_TYPE)?.map(str::to_owned);
    Ok(Metadata { content_type, user, ..Metadata::default() })
}

fn text<'a>(name: &HeaderName, value: &'a HeaderValue) -> Result<&'a str, StorageError> {
    std::str::from_utf8(value.as_bytes())
        .map_err(|_| StorageError::invalid_input(format!("{name} is not UTF-8")))
}

/// The value of a header field that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, StorageError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| text(name, value)).transpose()?;
    if values.next().is_some() {
        return Err(StorageError::invalid_input(format!("{name} is given twice")));
    }
    Ok(value)
}

/// Writes the fields that name a version: `ETag` and `Last-Modified`.
pub fn put_version(headers: &mut HeaderMap, version: Version) {
    if let Ok(tag) = HeaderValue::from_str(&entity_tag(version)) {
        headers.insert(ETAG, tag);
    }
    // The format's years have four digits.
    let seconds = modified_seconds(version).min(253_402_300_799);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    if let Ok(date) = HeaderValue::from_str(&date) {
        headers.insert(LAST_MODIFIED, date);
    }
}

/// Writes the fields that describe an object, all but its length. Metadata that was not written
/// over HTTP and has no form as a header field is left out; the JSON routes show it.
pub fn put_head(headers: &mut HeaderMap, head: &ObjectHead) {
    put_version(headers, head.version);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let content_type =
        head.metadata.content_type.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
    headers.insert(
        CONTENT_TYPE,
        content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")),
    );
    if let Some(expires_at_ms) = head.expires_at_ms {
        headers.insert(SIRA_EXPIRES_AT_MS, HeaderValue::from(expires_at_ms));
    }
    for (name, value) in &head.metadata.user {
        let name = HeaderName::try_from(format!("{META_PREFIX}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn options_are_read_and_answered() {
        let sent = headers(&[
            ("content-type", "text/plain"),
            ("sira-ttl", "1.5s"),
            ("sira-durability", "interval:20"),
            ("Sira-Meta-Owner", "Zoë"),
        ]);
        let options = options(&sent, Durability::Sync).unwrap();
        assert_eq!(options.ttl, Some(Duration::from_millis(1500)));
        assert_eq!(options.durability, Some(Durability::Interval(20)));
        assert_eq!(options.metadata.user["owner"], "Zoë");

        let version = Version::from_u64(1_700_000_000_123 << 16);
        let mut answer = HeaderMap::new();
        put_head(
            &mut answer,
            &ObjectHead { version, size: 1, expires_at_ms: Some(7), metadata: options.metadata },
        );
        assert_eq!(answer["content-type"], "text/plain");
        assert_eq!(answer["sira-meta-owner"].as_bytes(), "Zoë".as_bytes());
        assert_eq!(answer["sira-expires-at-ms"], "7");
        assert_eq!(answer["last-modified"], "Tue, 14 Nov 2023 22:13:20 GMT");
        assert_eq!(answer["etag"], format!("\"{version}\""));
    }

    #[test]
    fn the_default_durability_is_the_servers() {
        let options = options(&HeaderMap::new(), Durability::None).unwrap();
        assert_eq!(options.durability, Some(Durability::None));
        assert_eq!(options.ttl, None);
    }

    #[test]
    fn contradictions_are_refused() {
        for fields in [
            &[("sira-ttl", "1"), ("sira-ttl", "2")][..],
            &[("sira-ttl", "soon")],
            &[("sira-durability", "maybe")],
            &[("sira-meta-", "x")],
            &[("sira-meta-a", "x"), ("sira-meta-a", "y")],
            &[("content-encoding", "gzip")],
            &[("content-range", "bytes 0-1/2")],
        ] {
            assert!(options(&headers(fields), Durability::Sync).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn metadata_without_a_header_form_is_left_out() {
        let user = [("a", "line\nbreak"), ("b(c)", "x"), ("d", "y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let metadata = Metadata {
            content_type: Some("a\nb".to_owned()),
            user: BTreeMap::from(user),
            ..Metadata::default()
        };
        let mut answer = HeaderMap::new();
        put_head(
            &mut answer,
            &ObjectHead { version: Version::default(), size: 0, expires_at_ms: None, metadata },
        );
        assert_eq!(answer["content-type"], "application/octet-stream");
        let own = answer.keys().filter(|name| name.as_str().starts_with(META_PREFIX)).count();
        assert_eq!(own, 1);
    }
}
