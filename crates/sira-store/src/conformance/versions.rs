//! Every write has a version of its own, and versions only grow.

use std::collections::BTreeSet;

use super::context::{
    Context, Outcome, ensure, fails, get_operation, put_operation, put_operation_with, race, same,
    works,
};
use super::suite::Verdict;
use crate::backend::BatchResult;
use crate::error::StorageError;
use crate::limits::EXACT_VERSION_END;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

pub(super) async fn told(cx: Context) -> Verdict {
    let key = cx.key("k");
    for round in 0..3 {
        let value = format!("round {round}");
        let version = cx.put(&key, value.clone()).await?;
        ensure!(version != Version::default(), "expected a version above 0, saw {version}");
        let object = cx.holds(&key, value.as_bytes()).await?;
        same("version that a read tells", &object.head.version, &version)?;
        let again = cx.object(&key).await?;
        same("version of a second read", &again.head.version, &version)?;
    }
    Ok(())
}

pub(super) async fn grow(cx: Context) -> Verdict {
    let mut last = Version::default();
    for round in 0..200 {
        // The same bytes again are a new version too.
        let version = cx.put(&cx.key(round % 3), "v").await?;
        ensure!(version > last, "expected a version above {last}, saw {version}");
        last = version;
    }
    Ok(())
}

pub(super) async fn grow_past_delete(cx: Context) -> Verdict {
    let key = cx.key("k");
    let mut last = Version::default();
    for _ in 0..20 {
        let version = cx.put(&key, "v").await?;
        ensure!(version > last, "expected a version above {last} after a delete, saw {version}");
        last = version;
        same("delete", &cx.delete(&key).await?, &true)?;
    }
    Ok(())
}

pub(super) async fn unique(cx: Context) -> Verdict {
    const ROUNDS: usize = 20;
    let tasks = cx.options.racing_writers;
    let versions: Vec<Outcome<Vec<Version>>> = race(tasks, |number| {
        let cx = cx.clone();
        async move {
            let mut versions = Vec::new();
            for round in 0..ROUNDS {
                let key = cx.key((number + round) % 5);
                versions.push(cx.put(&key, "v").await?);
                tokio::task::yield_now().await;
            }
            Ok(versions)
        }
    })
    .await?;
    let mut all = BTreeSet::new();
    for versions in versions {
        let versions = versions?;
        ensure!(versions.is_sorted(), "versions of one writer do not grow: {versions:?}");
        all.extend(versions);
    }
    same("versions that differ", &all.len(), &(tasks * ROUNDS))
}

pub(super) async fn delete_says_what_was_there(cx: Context) -> Verdict {
    let key = cx.key("k");
    same("delete of nothing", &cx.delete(&key).await?, &false)?;
    cx.put(&key, "v").await?;
    same("delete of an object", &cx.delete(&key).await?, &true)?;
    same("second delete", &cx.delete(&key).await?, &false)?;
    cx.absent(&key).await?;

    if !cx.backend.capabilities().conditional {
        return Ok(());
    }
    // Of many that remove at once, one removes.
    for round in 0..10 {
        let key = cx.key(round);
        cx.put(&key, "v").await?;
        let there = race(cx.options.racing_writers, |number| {
            let (cx, key) = (cx.racer(number), key.clone());
            async move { works("delete", &key, cx.backend.delete(&key).await) }
        })
        .await?;
        let there: Vec<bool> = there.into_iter().collect::<Outcome<_>>()?;
        let removed = there.into_iter().filter(|there| *there).count();
        same("racing deletes that removed the object", &removed, &1)?;
    }
    Ok(())
}

fn of_version(version: Version) -> StorageOptions {
    StorageOptions { version: Some(version), ..StorageOptions::default() }
}

/// The version after this one, by so many.
fn after(version: Version, by: u64) -> Version {
    Version::from_u64(version.as_u64() + by)
}

pub(super) async fn exact(cx: Context) -> Verdict {
    let key = cx.key("k");
    let first = Version::from_u64(7);
    same("version of a put", &cx.put_with(&key, "a", of_version(first)).await?, &first)?;
    same("version", &cx.holds(&key, b"a").await?.head.version, &first)?;
    // One that is drawn is greater, and so is a given one that is greater only.
    let drawn = cx.put(&key, "b").await?;
    ensure!(drawn > first, "expected a version above {first}, saw {drawn}");
    let ahead = after(drawn, 60_000 << 16);
    same("version of a put", &cx.put_with(&key, "c", of_version(ahead)).await?, &ahead)?;
    for version in [ahead, drawn, first, Version::from_u64(ahead.as_u64() - 1)] {
        let refused = cx.backend.put(&key, "older".into(), of_version(version)).await;
        fails("a put of an older version", refused, &["conflict"])?;
        let object = cx.holds(&key, b"c").await?;
        same("version after a refusal", &object.head.version, &ahead)?;
    }
    let drawn = cx.put(&key, "d").await?;
    ensure!(drawn > ahead, "expected a version above {ahead}, saw {drawn}");
    same("delete", &cx.delete(&key).await?, &true)?;
    let again = after(drawn, 1);
    same("version after a delete", &cx.put_with(&key, "e", of_version(again)).await?, &again)?;
    // Other keys have versions of their own.
    let other = cx.key("other");
    same("version of another key", &cx.put_with(&other, "f", of_version(again)).await?, &again)
}

pub(super) async fn exact_is_no_condition(cx: Context) -> Verdict {
    let key = cx.key("k");
    let first = cx.put(&key, "a").await?;
    let next = after(first, 5);
    for (condition, version, code) in [
        (Condition::IfAbsent, next, "precondition_failed"),
        (Condition::IfMatch(next), next, "precondition_failed"),
        (Condition::IfMatch(next), first, "precondition_failed"),
        (Condition::IfMatch(first), first, "conflict"),
        (Condition::IfPresent, first, "conflict"),
    ] {
        let options = StorageOptions { condition, ..of_version(version) };
        let refused = cx.backend.put(&key, "b".into(), options).await;
        fails(&format!("a put of version {version} {condition:?}"), refused, &[code])?;
    }
    let options = StorageOptions { condition: Condition::IfMatch(first), ..of_version(next) };
    same("version of a put", &cx.put_with(&key, "c", options).await?, &next)?;
    same("version", &cx.holds(&key, b"c").await?.head.version, &next)
}

pub(super) async fn exact_refused(cx: Context) -> Verdict {
    let key = cx.key("k");
    for number in [0, EXACT_VERSION_END, u64::MAX] {
        let refused = cx.backend.put(&key, "v".into(), of_version(Version::from_u64(number))).await;
        fails(&format!("a put of version {number}"), refused, &["invalid_input"])?;
    }
    cx.absent(&key).await
}

pub(super) async fn exact_in_batches(cx: Context) -> Verdict {
    let (a, b, c) = (cx.key("a"), cx.key("b"), cx.key("c"));
    let before = cx.put(&a, "before").await?;
    let (of_a, of_b) = (after(before, 9), Version::from_u64(3));
    let operations = vec![
        put_operation_with(&a, "1", of_version(of_a)),
        put_operation_with(&b, "2", of_version(of_b)),
        put_operation(&c, "3"),
        get_operation(&a),
    ];
    let results = cx.batch(operations).await?;
    let mut told = Vec::new();
    for result in &results {
        told.push(match result {
            BatchResult::Success { version: Some(version) } => *version,
            BatchResult::Value(Some(object)) => object.head.version,
            other => return Err(format!("batch: expected success, saw {other:?}")),
        });
    }
    let of_c = cx.holds(&c, b"3").await?.head.version;
    same("versions of a batch", &told, &vec![of_a, of_b, of_c, of_a])?;
    same("version in a batch", &cx.holds(&a, b"1").await?.head.version, &of_a)?;
    same("version in a batch", &cx.holds(&b, b"2").await?.head.version, &of_b)?;

    // Not older than what the key holds, and not older than what the batch itself writes before.
    for (key, version) in [(&a, of_a), (&a, before), (&b, of_b)] {
        let operations =
            vec![put_operation_with(key, "old", of_version(version)), put_operation(&c, "4")];
        let results = cx.batch(operations).await?;
        let refused =
            matches!(results.first(), Some(BatchResult::Error(StorageError::Conflict(_))));
        ensure!(refused, "an older version in a batch: expected a conflict, saw {results:?}");
        if cx.backend.capabilities().atomic_batch {
            cx.holds(&c, b"3").await?;
        }
    }
    let (newer, older) = (after(of_a, 8), after(of_a, 7));
    let operations = vec![
        put_operation_with(&a, "newer", of_version(newer)),
        put_operation_with(&a, "older", of_version(older)),
    ];
    let results = cx.batch(operations).await?;
    let refused = matches!(results.last(), Some(BatchResult::Error(StorageError::Conflict(_))));
    ensure!(refused, "an older version behind a newer: expected a conflict, saw {results:?}");
    Ok(())
}

/// Copies of one object that arrive in any order leave the newest behind.
pub(super) async fn exact_in_race(cx: Context) -> Verdict {
    for round in 0..10 {
        let key = cx.key(round);
        let count = cx.options.racing_writers;
        let newest = Version::from_u64(1000 + count as u64 - 1);
        let results = race(count, |number| {
            let (cx, key) = (cx.racer(number), key.clone());
            async move {
                let version = Version::from_u64(1000 + number as u64);
                cx.backend.put(&key, format!("value {number}").into(), of_version(version)).await
            }
        })
        .await?;
        for result in results {
            if let Err(error) = &result
                && !matches!(error, StorageError::Conflict(_))
            {
                return Err(format!("a racing put: expected success or a conflict, saw {error}"));
            }
        }
        let object = cx.holds(&key, format!("value {}", count - 1).as_bytes()).await?;
        same("version after a race", &object.head.version, &newest)?;
    }
    Ok(())
}
