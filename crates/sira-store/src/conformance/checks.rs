//! Batches that check keys which they do not change, and removals under conditions.

use super::context::{
    Context, Outcome, delete_operation, ensure, put_operation, put_operation_with, race, same,
    works,
};
use super::suite::Verdict;
use crate::backend::{BatchOperation, BatchResult};
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// Rounds of a race.
const ROUNDS: usize = 25;

fn check(key: &str, condition: Condition) -> BatchOperation {
    BatchOperation::Check { key: key.to_owned(), condition }
}

fn delete_if(key: &str, condition: Condition) -> BatchOperation {
    BatchOperation::Delete { key: key.to_owned(), condition }
}

fn all_worked(results: &[BatchResult]) -> bool {
    results.iter().all(|result| matches!(result, BatchResult::Success { .. }))
}

async fn works_whole(cx: &Context, operations: Vec<BatchOperation>) -> Verdict {
    let results = cx.batch(operations.clone()).await?;
    ensure!(all_worked(&results), "{operations:?}: expected success, saw {results:?}");
    Ok(())
}

/// A batch that must be refused whole: each of its operations says so.
async fn refused(cx: &Context, operations: Vec<BatchOperation>) -> Verdict {
    let results = cx.batch(operations.clone()).await?;
    let code = |result: &BatchResult| match result {
        BatchResult::Error(error) => error.code(),
        _ => "success",
    };
    let codes: Vec<_> = results.iter().map(code).collect();
    same(&format!("{operations:?}"), &codes, &vec!["precondition_failed"; operations.len()])
}

pub(super) async fn demands(cx: Context) -> Verdict {
    let (there, none, new) = (cx.key("there"), cx.key("none"), cx.key("new"));
    let version = cx.put(&there, "before").await?;
    let other = Version::from_u64(version.as_u64() - 1);
    for (key, condition) in [
        (&there, Condition::IfAbsent),
        (&there, Condition::IfMatch(other)),
        (&none, Condition::IfPresent),
        (&none, Condition::IfMatch(version)),
    ] {
        refused(&cx, vec![check(key, condition), put_operation(&new, "v")]).await?;
        refused(&cx, vec![put_operation(&new, "v"), check(key, condition)]).await?;
        refused(&cx, vec![delete_if(key, condition), put_operation(&new, "v")]).await?;
        cx.absent(&new).await?;
    }
    works_whole(
        &cx,
        vec![
            check(&there, Condition::IfMatch(version)),
            check(&none, Condition::IfAbsent),
            put_operation(&new, "v"),
        ],
    )
    .await?;
    cx.holds(&new, b"v").await?;
    // What is checked stays what it was.
    let object = cx.holds(&there, b"before").await?;
    same("version of what was checked", &object.head.version, &version)?;
    cx.absent(&none).await?;
    works_whole(&cx, vec![check(&there, Condition::IfPresent)]).await?;
    works_whole(&cx, vec![check(&none, Condition::IfAbsent)]).await?;
    cx.absent(&none).await?;
    works_whole(&cx, vec![delete_if(&there, Condition::IfMatch(version))]).await?;
    cx.absent(&there).await
}

pub(super) async fn in_order(cx: Context) -> Verdict {
    let (a, b) = (cx.key("a"), cx.key("b"));
    // A check sees what the batch did before, and what it does later is judged by the check.
    works_whole(
        &cx,
        vec![
            put_operation(&a, "1"),
            check(&a, Condition::IfPresent),
            check(&b, Condition::IfAbsent),
            put_operation(&b, "1"),
            delete_operation(&b),
            check(&b, Condition::IfAbsent),
        ],
    )
    .await?;
    cx.holds(&a, b"1").await?;
    cx.absent(&b).await?;
    refused(&cx, vec![check(&b, Condition::IfPresent), put_operation(&b, "2")]).await?;
    refused(&cx, vec![put_operation(&b, "2"), check(&b, Condition::IfAbsent)]).await?;
    cx.absent(&b).await
}

/// Two batches that each write what the other has checked cannot both be right.
pub(super) async fn racing(cx: Context) -> Verdict {
    for round in 0..ROUNDS {
        let keys = [cx.key(format!("{round}a")), cx.key(format!("{round}b"))];
        let absent = [Condition::IfAbsent; 2];
        crossed(&cx, &keys, absent).await?;
        let mut versions = Vec::new();
        for key in &keys {
            versions.push(cx.put(key, "present").await?);
        }
        let [a, b] = versions.as_slice() else { continue };
        crossed(&cx, &keys, [Condition::IfMatch(*a), Condition::IfMatch(*b)]).await?;
    }
    Ok(())
}

/// Races writers, each of which checks one of two keys and writes the other: of those that check
/// one and those that check the other, only one kind may succeed, and only once.
async fn crossed(cx: &Context, keys: &[String; 2], conditions: [Condition; 2]) -> Verdict {
    let [a, b] = keys;
    let [of_a, of_b] = conditions;
    let results = race(4, |number| {
        let cx = cx.racer(number);
        let value = format!("writer {number}");
        let with = |condition| StorageOptions { condition, ..StorageOptions::default() };
        let operations = match number % 2 {
            0 => vec![check(a, of_a), put_operation_with(b, value, with(of_b))],
            _ => vec![put_operation_with(a, value, with(of_a)), check(b, of_b)],
        };
        async move { works("batch", "", cx.backend.batch(operations).await) }
    })
    .await?;
    let results = results.into_iter().collect::<Outcome<Vec<_>>>()?;
    let winners = results.iter().filter(|results| all_worked(results)).count();
    ensure!(
        winners == 1,
        "expected one of the batches that write what others check to win, saw {winners}: {results:?}"
    );
    Ok(())
}
