//! Plain strings, which other clients of the server read and write.
//!
//! A value is the string `PREFIXNAMESPACE:KEY`. Its state is the first 48 bits of its SHA-1, which
//! the server can reckon in a script.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use sira_store::plain::{PlainDriver, PlainObject, PlainProfile, PlainWrite};
use sira_store::{Condition, HealthStatus, Result, StorageError, Version};

use super::error::Effect;
use super::reply;
use super::script::{PLAIN_GET, PLAIN_PUT, PLAIN_REMOVE, Request};
use super::{BODY_BYTES_MAX, RedisDriver, status};

/// Strings under one stem of names.
#[derive(Debug)]
pub(super) struct PlainStrings {
    redis: Arc<RedisDriver>,
    stem: String,
}

impl PlainStrings {
    pub(super) fn new(redis: Arc<RedisDriver>, namespace: &str) -> Self {
        let stem = format!("{}{namespace}:", redis.options.prefix);
        Self { redis, stem }
    }

    fn name(&self, key: &str) -> Vec<u8> {
        [self.stem.as_bytes(), key.as_bytes()].concat()
    }
}

/// What the scripts call a condition.
fn want(condition: Condition) -> String {
    let state = |version: Version| format!("{:012x}", version.as_u64() & 0xFFFF_FFFF_FFFF);
    match condition {
        Condition::Always => "a".to_owned(),
        Condition::IfAbsent => "n".to_owned(),
        Condition::IfPresent => "p".to_owned(),
        Condition::IfMatch(version) if version.is_state() => format!("m{}", state(version)),
        // No string has such a version.
        Condition::IfMatch(_) => "m".to_owned(),
        Condition::IfNoneMatch(version) if version.is_state() => format!("x{}", state(version)),
        Condition::IfNoneMatch(_) => "a".to_owned(),
    }
}

fn state_of(value: &[u8]) -> Version {
    let digest = sha1_smol::Sha1::from(value).digest().bytes();
    let head = digest.first_chunk::<8>().copied().unwrap_or_default();
    Version::of_state(u64::from_be_bytes(head))
}

fn refused() -> StorageError {
    StorageError::precondition_failed(
        "the key does not hold what was demanded; read it again and decide anew",
    )
}

#[async_trait]
impl PlainDriver for PlainStrings {
    fn profile(&self) -> PlainProfile {
        PlainProfile {
            name: "redis",
            persistent: self.redis.persistent,
            ttl: true,
            conditional: true,
            // The server has no order of keys, and a scan of them all is no page.
            list: false,
            content_type: false,
            value_bytes_max: BODY_BYTES_MAX,
        }
    }

    fn check_key(&self, _: &str) -> Result<()> {
        Ok(())
    }

    async fn put(&self, key: &str, write: PlainWrite) -> Result<Version> {
        let version = state_of(&write.value);
        let request = Request::call_on_plain(&PLAIN_PUT, &self.name(key))
            .arg(&write.value[..])
            .arg(want(write.condition))
            .arg(write.expires_at_ms.unwrap_or(0));
        match reply::count(self.redis.link.run(&request, Effect::Write).await?)? {
            0 => Err(refused()),
            _ => Ok(version),
        }
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Option<PlainObject>> {
        let request = Request::call_on_plain(&PLAIN_GET, &self.name(key));
        let request = match &range {
            // Greater numbers would be inexact in the script, and no value is as long.
            Some(range) => request.arg(range.start.min(1 << 48)).arg(range.end.min(1 << 48)),
            None => request.arg("").arg(""),
        };
        let answer = self.redis.link.run(&request, Effect::Read).await?;
        let mut parts = reply::array(answer)?.into_iter();
        let Some(size) = parts.next() else { return Ok(None) };
        let mut next = || parts.next().unwrap_or(Value::Nil);
        let (size, expires_at_ms) = (reply::count(size)?, reply::count(next())?);
        let (state, value) = (reply::bytes(next())?, reply::bytes(next())?);
        let version = if range.is_none() { state_of(&value) } else { told(&state)? };
        let expires_at_ms = Some(expires_at_ms).filter(|at| *at > 0);
        Ok(Some(PlainObject { version, size, expires_at_ms, content_type: None, value }))
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let request = Request::call_on_plain(&PLAIN_REMOVE, &self.name(key)).arg(want(condition));
        match self.redis.link.run(&request, Effect::Write).await? {
            Value::Int(-1) => Err(refused()),
            removed => Ok(reply::count(removed)? > 0),
        }
    }

    async fn health_check(&self) -> HealthStatus {
        status::health(&self.redis.link).await
    }
}

/// The state that a script told.
fn told(state: &Bytes) -> Result<Version> {
    let number = std::str::from_utf8(state).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let number = number.ok_or_else(|| StorageError::io("Redis told no state of a plain value"))?;
    Ok(Version::of_state(number << 16))
}
