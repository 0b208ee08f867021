//! Batches answer each operation, and where they are atomic they take effect whole or not at all.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::context::{
    Context, Outcome, delete_operation, ensure, fails, fill, get_operation, put_operation,
    put_operation_with, race, same, same_bytes, works,
};
use super::suite::Verdict;
use crate::backend::{BatchOperation, BatchResult, Object};
use crate::limits::{BATCH_OPERATIONS_MAX, KEY_BYTES_MAX};
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// The version of a write that must have worked.
fn written(result: &BatchResult) -> Outcome<Version> {
    match result {
        BatchResult::Success { version: Some(version) } => Ok(*version),
        other => Err(format!("put in a batch: expected success with a version, saw {other:?}")),
    }
}

fn removed(result: &BatchResult) -> Verdict {
    match result {
        BatchResult::Success { version: None } => Ok(()),
        other => Err(format!("delete in a batch: expected success, saw {other:?}")),
    }
}

fn found(result: &BatchResult) -> Outcome<Option<&Object>> {
    match result {
        BatchResult::Value(object) => Ok(object.as_ref()),
        other => Err(format!("get in a batch: expected what the key holds, saw {other:?}")),
    }
}

fn found_bytes(result: &BatchResult) -> Outcome<Option<&Bytes>> {
    Ok(found(result)?.map(|object| &object.value))
}

fn conditional(condition: Condition) -> StorageOptions {
    StorageOptions { condition, ..StorageOptions::default() }
}

/// Fails: a batch has as many answers as operations, which is checked before.
fn few() -> String {
    "expected an answer for each operation".to_owned()
}

pub(super) async fn answers(cx: Context) -> Verdict {
    same("answers of an empty batch", &cx.batch(Vec::new()).await?.len(), &0)?;
    let (a, b, c) = (cx.key("a"), cx.key("b"), cx.key("c"));
    let before = cx.put(&b, "before").await?;
    let results = cx
        .batch(vec![
            put_operation(&a, "1"),
            get_operation(&b),
            get_operation(&c),
            delete_operation(&b),
            delete_operation(&c),
        ])
        .await?;
    let [put, get, nothing, delete, delete_nothing] = results.as_slice() else { return Err(few()) };
    let version = written(put)?;
    ensure!(version > before, "expected a version above {before}, saw {version}");
    let object = found(get)?.ok_or("get in a batch: expected an object, saw none")?;
    same_bytes("get in a batch", &object.value, b"before")?;
    same("version of a get in a batch", &object.head.version, &before)?;
    same("get of nothing in a batch", &found_bytes(nothing)?, &None)?;
    removed(delete)?;
    removed(delete_nothing)?;
    let object = cx.holds(&a, b"1").await?;
    same("version of a put in a batch", &object.head.version, &version)?;
    cx.absent(&b).await
}

pub(super) async fn in_order(cx: Context) -> Verdict {
    let key = cx.key("k");
    let results = cx
        .batch(vec![
            get_operation(&key),
            put_operation(&key, "1"),
            get_operation(&key),
            put_operation(&key, "2"),
            put_operation(&key, "3"),
            get_operation(&key),
            delete_operation(&key),
            get_operation(&key),
            put_operation(&key, "4"),
            get_operation(&key),
        ])
        .await?;
    let gets = results.iter().filter(|result| matches!(result, BatchResult::Value(_)));
    let gets = gets.map(found_bytes).collect::<Outcome<Vec<_>>>()?;
    let texts: Vec<_> = gets.into_iter().map(|bytes| bytes.map(|bytes| bytes.to_vec())).collect();
    let text = |text: &str| Some(text.as_bytes().to_vec());
    same("reads between writes", &texts, &vec![None, text("1"), text("3"), None, text("4")])?;
    let object = cx.holds(&key, b"4").await?;
    let (Some(put), Some(get)) = (results.get(8), results.get(9)) else { return Err(few()) };
    same("version of the last put", &written(put)?, &object.head.version)?;
    let got = found(get)?.map(|object| object.head.version);
    same("version that a read of the batch's own write tells", &got, &Some(object.head.version))
}

pub(super) async fn large(cx: Context) -> Verdict {
    let keys: Vec<_> = (0..1000).map(|number| cx.key(format!("{number:04}"))).collect();
    let value = |number: usize| fill(number % 300, number as u64);
    let puts = keys.iter().enumerate().map(|(number, key)| put_operation(key, value(number)));
    for result in cx.batch(puts.collect()).await? {
        written(&result)?;
    }
    let gets = keys.iter().map(|key| get_operation(key)).collect();
    for (number, result) in cx.batch(gets).await?.iter().enumerate() {
        same("get in a large batch", &found_bytes(result)?, &Some(&value(number)))?;
    }
    for result in cx.batch(keys.iter().map(|key| delete_operation(key)).collect()).await? {
        removed(&result)?;
    }
    let gets = keys.iter().map(|key| get_operation(key)).collect();
    for result in cx.batch(gets).await? {
        same("get after a large batch of deletes", &found_bytes(&result)?, &None)?;
    }
    Ok(())
}

pub(super) async fn refused(cx: Context) -> Verdict {
    let key = cx.key("k");
    let mut operations = vec![put_operation(&key, "v")];
    operations.resize(BATCH_OPERATIONS_MAX + 1, get_operation(&key));
    let result = cx.backend.batch(operations).await;
    fails("a batch of too many operations", result, &["too_large"])?;
    cx.absent(&key).await
}

pub(super) async fn others_go_on(cx: Context) -> Verdict {
    let (a, b) = (cx.key("a"), cx.key("b"));
    let atomic = cx.backend.capabilities().atomic_batch;
    // A read that fails stops no write; a write that fails stops those of an atomic batch alone.
    let failing = match atomic {
        true => get_operation(""),
        false => put_operation("", "v"),
    };
    let operations = vec![put_operation(&a, "1"), failing, put_operation(&b, "2")];
    let results = cx.batch(operations).await?;
    let [first, failed, last] = results.as_slice() else { return Err(few()) };
    written(first)?;
    ensure!(matches!(failed, BatchResult::Error(_)), "expected an error, saw {failed:?}");
    written(last)?;
    cx.holds(&a, b"1").await?;
    cx.holds(&b, b"2").await.map(|_| ())
}

/// Writes that fail, and the code of the error that they fail with.
fn failing(cx: &Context, there: &str) -> Vec<(BatchOperation, &'static str)> {
    let declared = cx.backend.capabilities();
    let mut failing = vec![
        (put_operation("", "v"), "invalid_input"),
        (delete_operation(""), "invalid_input"),
        (put_operation(&"k".repeat(KEY_BYTES_MAX + 1), "v"), "too_large"),
    ];
    if declared.conditional {
        let options = conditional(Condition::IfAbsent);
        failing.push((put_operation_with(there, "v", options), "precondition_failed"));
    }
    if declared.ttl {
        let options = StorageOptions { ttl: Some(Duration::ZERO), ..StorageOptions::default() };
        failing.push((put_operation_with(there, "v", options), "invalid_input"));
    }
    if declared.metadata {
        let user = [("Upper".to_owned(), String::new())].into();
        let metadata = Metadata { user, ..Metadata::default() };
        let options = StorageOptions { metadata, ..StorageOptions::default() };
        failing.push((put_operation_with(there, "v", options), "invalid_input"));
    }
    failing
}

pub(super) async fn all_or_nothing(cx: Context) -> Verdict {
    let (old, gone, new, there) = (cx.key("old"), cx.key("gone"), cx.key("new"), cx.key("there"));
    let mut versions = Vec::new();
    for key in [&old, &gone, &there] {
        versions.push(cx.put(key, "before").await?);
    }
    for (operation, code) in failing(&cx, &there) {
        for at in [0, 2, 6] {
            let mut operations = vec![
                put_operation(&old, "after"),
                delete_operation(&gone),
                put_operation(&new, "after"),
                get_operation(&old),
                get_operation(&new),
                get_operation(&gone),
            ];
            operations.insert(at, operation.clone());
            let results = cx.batch(operations.clone()).await?;
            let what = format!("batch with {operation:?} at {at}");
            let mut reads = Vec::new();
            for (number, (operation, result)) in operations.iter().zip(results).enumerate() {
                match result {
                    BatchResult::Error(error) if operation.is_write() => {
                        let codes: &[&str] = if number == at { &[code] } else { &[error.code()] };
                        fails::<()>(&what, Err(error), codes)?;
                    }
                    BatchResult::Value(object) if !operation.is_write() => {
                        reads.push(object.map(|object| object.value));
                    }
                    other => return Err(format!("{what}: operation {number} answered {other:?}")),
                }
            }
            let before = Some(Bytes::from("before"));
            let expected = vec![before.clone(), None, before];
            same(&format!("reads of a failed {what}"), &reads, &expected)?;
            cx.absent(&new).await?;
            for (key, version) in [&old, &gone, &there].into_iter().zip(&versions) {
                let object = cx.holds(key, b"before").await?;
                same(&format!("version after a failed {what}"), &object.head.version, version)?;
            }
        }
    }
    Ok(())
}

pub(super) async fn conditions(cx: Context) -> Verdict {
    let (a, b) = (cx.key("a"), cx.key("b"));
    let version = cx.put(&b, "before").await?;
    let results = cx
        .batch(vec![
            put_operation_with(&a, "1", conditional(Condition::IfAbsent)),
            put_operation_with(&b, "2", conditional(Condition::IfMatch(version))),
            // Conditions see the batch's earlier writes.
            put_operation_with(&a, "3", conditional(Condition::IfPresent)),
            delete_operation(&b),
            put_operation_with(&b, "4", conditional(Condition::IfAbsent)),
        ])
        .await?;
    for result in
        results.iter().filter(|result| !matches!(result, BatchResult::Success { version: None }))
    {
        written(result)?;
    }
    let after = cx.holds(&a, b"3").await?.head.version;
    cx.holds(&b, b"4").await?;

    let stale = [
        vec![put_operation_with(&a, "5", conditional(Condition::IfMatch(version)))],
        vec![delete_operation(&a), put_operation_with(&a, "5", conditional(Condition::IfPresent))],
        vec![
            put_operation(&a, "5"),
            put_operation_with(&a, "6", conditional(Condition::IfMatch(after))),
        ],
    ];
    for operations in stale {
        for result in cx.batch(operations.clone()).await? {
            ensure!(
                matches!(result, BatchResult::Error(_)),
                "{operations:?}: expected an error for each, saw {result:?}"
            );
        }
        let object = cx.holds(&a, b"3").await?;
        same("version after a refused batch", &object.head.version, &after)?;
    }
    Ok(())
}

pub(super) async fn seen_whole(cx: Context) -> Verdict {
    let keys: Arc<[String]> = (0..64).map(|number| cx.key(format!("{number:02}"))).collect();
    write_rounds(&cx, &keys, 0..=0).await?;
    let over = Arc::new(AtomicBool::new(false));
    let verdicts = race(4, |number| {
        let (cx, keys, over) = (cx.racer(number), Arc::clone(&keys), Arc::clone(&over));
        async move {
            if number == 0 {
                let verdict = write_rounds(&cx, &keys, 1..=300).await;
                over.store(true, Ordering::Release);
                return verdict;
            }
            while !over.load(Ordering::Acquire) {
                match number {
                    1 => see_in_batch(&cx, &keys).await?,
                    2 => see_one_by_one(&cx, keys.first(), keys.last()).await?,
                    _ => see_one_by_one(&cx, keys.last(), keys.first()).await?,
                }
                tokio::task::yield_now().await;
            }
            Ok(())
        }
    });
    verdicts.await?.into_iter().collect()
}

/// Writes the number of the round under all keys, in one batch a round.
async fn write_rounds(cx: &Context, keys: &[String], rounds: RangeInclusive<u32>) -> Verdict {
    for round in rounds {
        let value = round.to_be_bytes().to_vec();
        let puts = keys.iter().map(|key| put_operation(key, value.clone())).collect();
        for result in cx.batch(puts).await? {
            written(&result)?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn see_in_batch(cx: &Context, keys: &[String]) -> Verdict {
    let results = cx.batch(keys.iter().map(|key| get_operation(key)).collect()).await?;
    let seen = results.iter().map(found_bytes).collect::<Outcome<Vec<_>>>()?;
    let whole = seen.windows(2).all(|pair| pair.first() == pair.last());
    ensure!(whole, "expected all of a batch or nothing of it, saw {seen:?}");
    Ok(())
}

/// Whoever has seen one write of a batch sees the others from then on.
async fn see_one_by_one(cx: &Context, one: Option<&String>, other: Option<&String>) -> Verdict {
    let (Some(one), Some(other)) = (one, other) else { return Err(few()) };
    let seen = cx.object(one).await?.value;
    let later = cx.object(other).await?.value;
    ensure!(later >= seen, "expected all of the batch of {seen:?}, saw {later:?} beside it");
    Ok(())
}

pub(super) async fn racing(cx: Context) -> Verdict {
    for round in 0..20 {
        let (a, b) = (cx.key(format!("{round}a")), cx.key(format!("{round}b")));
        let results = race(cx.options.racing_writers, |number| {
            let (cx, value) = (cx.racer(number), format!("writer {number}"));
            let mut operations: Vec<_> = [&a, &b]
                .iter()
                .map(|key| put_operation_with(key, value.clone(), conditional(Condition::IfAbsent)))
                .collect();
            // Taking the keys in either order must not stop the writers at each other.
            if number % 2 == 0 {
                operations.reverse();
            }
            async move { works("batch", "", cx.backend.batch(operations).await) }
        })
        .await?;
        let mut winners = Vec::new();
        for (number, results) in results.into_iter().enumerate() {
            let worked =
                results?.iter().filter(|r| matches!(r, BatchResult::Success { .. })).count();
            ensure!(worked == 0 || worked == 2, "expected both writes or none, saw {worked}");
            winners.extend((worked == 2).then_some(number));
        }
        let [winner] = winners.as_slice() else {
            return Err(format!("expected one batch to win, saw {winners:?}"));
        };
        for key in [&a, &b] {
            cx.holds(key, format!("writer {winner}").as_bytes()).await?;
        }
    }
    Ok(())
}
