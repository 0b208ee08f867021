//! Objects are there until their time has come, and gone from then on.
//!
//! Nothing here depends on how fast the machine is: what is seen is compared with the object's own
//! expiry, on the clock before and after the look.

use std::time::Duration;

use super::context::{
    Context, Outcome, ensure, fails, get_operation, put_operation_with, same, works,
};
use super::suite::Verdict;
use crate::backend::{BatchResult, ListOptions, ReadOptions};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

fn expiring(ttl: Duration) -> StorageOptions {
    StorageOptions { ttl: Some(ttl), ..StorageOptions::default() }
}

/// When the object under a key expires; `None` when it is gone by now, which it may be at the
/// earliest at `earliest_ms`.
async fn expiry(cx: &Context, key: &str, earliest_ms: u64) -> Outcome<Option<u64>> {
    let Some(head) = cx.head(key).await? else {
        let now_ms = cx.now_ms();
        ensure!(
            now_ms.saturating_add(cx.skew_ms()) >= earliest_ms,
            "expected an object until {earliest_ms}, saw none at {now_ms} or earlier"
        );
        return Ok(None);
    };
    let at = head.expires_at_ms.ok_or("expected a time of expiry, saw none")?;
    Ok(Some(at))
}

/// Writes an object that expires soon, and tells its version and a time at which it is gone.
async fn put_briefly(cx: &Context, key: &str, value: &'static str) -> Outcome<(Version, u64)> {
    let ttl = cx.options.ttl;
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let earliest = cx.now_ms().saturating_add(ttl_ms);
    let version = cx.put_with(key, value, expiring(ttl)).await?;
    // On a busy machine it may be gone before it is looked at.
    let latest = cx.now_ms().saturating_add(ttl_ms + 1);
    Ok((version, expiry(cx, key, earliest).await?.unwrap_or(latest)))
}

/// Ways of finding out whether a key holds an object.
#[derive(Debug, Clone, Copy)]
enum Look {
    Read,
    Range,
    Get,
    Head,
    Exists,
    Batch,
    List,
}

impl Look {
    const ALL: [Self; 7] =
        [Self::Read, Self::Range, Self::Get, Self::Head, Self::Exists, Self::Batch, Self::List];

    async fn sees(self, cx: &Context, key: &str) -> Outcome<bool> {
        let backend = &cx.backend;
        Ok(match self {
            Self::Read => cx.read(key).await?.is_some(),
            Self::Range => {
                let options = ReadOptions { range: Some(0..1), ..ReadOptions::default() };
                works("read", key, backend.read(key, options).await)?.is_some()
            }
            Self::Get => works("get", key, backend.get(key).await)?.is_some(),
            Self::Head => cx.head(key).await?.is_some(),
            Self::Exists => works("exists", key, backend.exists(key).await)?,
            Self::Batch => match cx.batch(vec![get_operation(key)]).await?.pop() {
                Some(BatchResult::Value(found)) => found.is_some(),
                other => return Err(format!("batch: expected what the key holds, saw {other:?}")),
            },
            Self::List => {
                let options = ListOptions { prefix: key.to_owned(), ..ListOptions::default() };
                let page = works("list", key, backend.list(options).await)?;
                page.entries.iter().any(|entry| entry.key == key)
            }
        })
    }
}

pub(super) async fn exact(cx: Context) -> Verdict {
    let key = cx.key("k");
    let mut ttl = cx.options.ttl;
    let at = loop {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let earliest = cx.now_ms().saturating_add(ttl_ms);
        cx.put_with(&key, "v", expiring(ttl)).await?;
        match expiry(&cx, &key, earliest).await? {
            Some(at) => break at,
            // The machine is too busy for so short a time.
            None => ttl = ttl.saturating_mul(2),
        }
    };
    let skew = cx.skew_ms();
    let lists = cx.backend.capabilities().list;
    let looks: Vec<_> =
        Look::ALL.into_iter().filter(|look| lists || !matches!(look, Look::List)).collect();
    loop {
        let over = cx.now_ms() > at.saturating_add(skew + 20);
        for look in &looks {
            let before = cx.now_ms();
            let sees = look.sees(&cx, &key).await?;
            let after = cx.now_ms();
            ensure!(
                !sees || before < at.saturating_add(skew),
                "{look:?}: expected nothing from {at} on, saw an object at {before} or later"
            );
            ensure!(
                sees || after.saturating_add(skew) >= at,
                "{look:?}: expected an object until {at}, saw none at {after} or earlier"
            );
        }
        if over {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

pub(super) async fn told(cx: Context) -> Verdict {
    let cases = [
        (Duration::from_secs(3600), 3_600_000),
        (Duration::from_millis(86_400_001), 86_400_001),
        // Parts of a millisecond count as a whole one.
        (Duration::from_micros(5_000_001), 5_001),
    ];
    for (number, (ttl, ttl_ms)) in cases.into_iter().enumerate() {
        let key = cx.key(number);
        let before = cx.now_ms().saturating_sub(cx.skew_ms());
        cx.put_with(&key, "v", expiring(ttl)).await?;
        let after = cx.now_ms().saturating_add(cx.skew_ms());
        let at = expiry(&cx, &key, u64::MAX).await?.unwrap_or(0);
        let (least, most) = (before.saturating_add(ttl_ms), after.saturating_add(ttl_ms));
        ensure!(
            (least..=most).contains(&at),
            "expiry of {ttl:?}: expected {least} to {most}, saw {at}"
        );
        cx.holds(&key, b"v").await?;
    }
    let key = cx.key("for ever");
    cx.put(&key, "v").await?;
    let object = cx.holds(&key, b"v").await?;
    same("expiry of an object without a time to live", &object.head.expires_at_ms, &None)
}

pub(super) async fn replaced(cx: Context) -> Verdict {
    let (ever, longer, sooner) = (cx.key("ever"), cx.key("longer"), cx.key("sooner"));
    put_briefly(&cx, &ever, "first").await?;
    cx.put(&ever, "second").await?;
    put_briefly(&cx, &longer, "first").await?;
    cx.put_with(&longer, "second", expiring(Duration::from_secs(3600))).await?;
    cx.put(&sooner, "first").await?;
    let (_, at) = put_briefly(&cx, &sooner, "second").await?;
    cx.wait_until(at).await;

    let object = cx.holds(&ever, b"second").await?;
    same("expiry after a write without a time to live", &object.head.expires_at_ms, &None)?;
    cx.holds(&longer, b"second").await?;
    // What was under it does not come back.
    cx.absent(&sooner).await
}

pub(super) async fn gone_is_absent(cx: Context) -> Verdict {
    let (key, other) = (cx.key("k"), cx.key("other"));
    let (first, at) = put_briefly(&cx, &key, "v").await?;
    let operation = put_operation_with(&other, "v", expiring(cx.options.ttl));
    match cx.batch(vec![operation]).await?.pop() {
        Some(BatchResult::Success { version: Some(_) }) => {}
        seen => return Err(format!("batch: expected success with a version, saw {seen:?}")),
    }
    cx.wait_until(at).await;
    if let Some(head) = cx.head(&other).await? {
        let at = head.expires_at_ms;
        cx.wait_until(at.ok_or("expected an expiry after a batch, saw none")?).await;
    }
    cx.absent(&other).await?;
    cx.absent(&key).await?;
    same("delete of an expired object", &cx.delete(&key).await?, &false)?;
    let version = cx.put(&key, "again").await?;
    ensure!(version > first, "expected a version above {first}, saw {version}");
    let object = cx.holds(&key, b"again").await?;
    same("expiry of the new object", &object.head.expires_at_ms, &None)
}

pub(super) async fn gone_is_absent_to_conditions(cx: Context) -> Verdict {
    let key = cx.key("k");
    let (version, at) = put_briefly(&cx, &key, "v").await?;
    cx.wait_until(at).await;
    let failed = &["precondition_failed"];
    for condition in [Condition::IfPresent, Condition::IfMatch(version)] {
        let what = format!("{condition:?} over an expired object");
        fails(&what, cx.put_if(&key, "w", condition).await, failed)?;
        fails(&what, cx.backend.remove(&key, condition).await, failed)?;
    }
    works("IfAbsent put", &key, cx.put_if(&key, "w", Condition::IfAbsent).await)?;
    cx.holds(&key, b"w").await.map(|_| ())
}

pub(super) async fn edges(cx: Context) -> Verdict {
    let key = cx.key("k");
    let zero = cx.backend.put(&key, "v".into(), expiring(Duration::ZERO)).await;
    fails("a time to live of zero", zero, &["invalid_input"])?;
    cx.absent(&key).await?;

    for ttl in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(1 << 40)] {
        cx.put_with(&key, "v", expiring(ttl)).await?;
        cx.holds(&key, b"v").await?;
    }

    cx.put_with(&key, "v", expiring(Duration::from_nanos(1))).await?;
    cx.wait_until(cx.now_ms() + 1).await;
    cx.absent(&key).await
}

/// A time at which the object is gone, in the place of a time to live.
pub(super) async fn at(cx: Context) -> Verdict {
    let key = cx.key("k");
    let at = |at| StorageOptions { expires_at_ms: Some(at), ..StorageOptions::default() };
    let later = cx.now_ms() + cx.skew_ms() + 3_600_000;
    cx.put_with(&key, "v", at(later)).await?;
    let object = cx.holds(&key, b"v").await?;
    same("expiry that was given", &object.head.expires_at_ms, &Some(later))?;

    let both = StorageOptions { ttl: Some(Duration::from_secs(9)), ..at(later) };
    let refused = cx.backend.put(&key, "w".into(), both).await;
    fails("an expiry that is given twice", refused, &["invalid_input"])?;
    cx.holds(&key, b"v").await?;

    let soon = cx.now_ms() + cx.skew_ms() + 20;
    cx.put_with(&key, "w", at(soon)).await?;
    cx.wait_until(soon).await;
    cx.absent(&key).await
}
