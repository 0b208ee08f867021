//! Conditions are checked and applied as one step.

use super::context::{Context, Outcome, fails, lost, race, same, works};
use super::suite::Verdict;
use crate::backend::ReadOptions;
use crate::error::Result;
use crate::metadata::Metadata;
use crate::options::{Condition, StorageOptions};
use crate::version::Version;

/// What stands for "not this version": one that no store hands out.
const OTHER: Version = Version::from_u64(1);

const FAILED: &[&str] = &["precondition_failed"];

/// Conditions that do not hold for a key that holds `current`, and those that do.
fn split(current: Option<Version>, stale: Version) -> (Vec<Condition>, Vec<Condition>) {
    let mut all = vec![
        Condition::Always,
        Condition::IfAbsent,
        Condition::IfPresent,
        Condition::IfMatch(OTHER),
        Condition::IfMatch(stale),
        Condition::IfNoneMatch(OTHER),
        Condition::IfNoneMatch(stale),
    ];
    if let Some(version) = current {
        all.extend([Condition::IfMatch(version), Condition::IfNoneMatch(version)]);
    }
    all.into_iter().partition(|condition| !condition.holds(current))
}

/// A key that has been written before, and either still holds an object or none.
async fn prepare(cx: &Context, key: &str, there: bool) -> Outcome<(Option<Version>, Version)> {
    let stale = cx.put(key, "stale").await?;
    if there {
        let version = cx.put(key, "before").await?;
        return Ok((Some(version), stale));
    }
    cx.delete(key).await?;
    Ok((None, stale))
}

/// Checks that the key holds what `prepare` left there.
async fn unchanged(cx: &Context, key: &str, current: Option<Version>) -> Verdict {
    match current {
        Some(version) => {
            let object = cx.holds(key, b"before").await?;
            same("version after a refused write", &object.head.version, &version)?;
            same("metadata after a refused write", &object.head.metadata, &Metadata::default())
        }
        None => cx.absent(key).await,
    }
}

pub(super) async fn of_writes(cx: Context) -> Verdict {
    let key = cx.key("k");
    for there in [true, false] {
        let (current, stale) = prepare(&cx, &key, there).await?;
        let (refusing, holding) = split(current, stale);
        for condition in refusing {
            let content_type = Some("text/plain".to_owned());
            let metadata = match cx.backend.capabilities().metadata {
                true => Metadata { content_type, ..Metadata::default() },
                false => Metadata::default(),
            };
            let options = StorageOptions { condition, metadata, ..StorageOptions::default() };
            let result = cx.backend.put(&key, "after".into(), options).await;
            fails(&format!("put with {condition:?} over {current:?}"), result, FAILED)?;
            unchanged(&cx, &key, current).await?;
        }
        for kind in 0..holding.len() {
            // The version is new each time, and the conditions with it.
            let (current, stale) = prepare(&cx, &key, there).await?;
            let Some(condition) = split(current, stale).1.get(kind).copied() else { continue };
            let version =
                works("conditional put", &key, cx.put_if(&key, "after", condition).await)?;
            let object = cx.holds(&key, b"after").await?;
            same("version of a conditional put", &object.head.version, &version)?;
        }
    }
    Ok(())
}

pub(super) async fn of_removals(cx: Context) -> Verdict {
    let key = cx.key("k");
    for there in [true, false] {
        let (current, stale) = prepare(&cx, &key, there).await?;
        let (refusing, holding) = split(current, stale);
        for condition in refusing {
            let result = cx.backend.remove(&key, condition).await;
            fails(&format!("remove with {condition:?} over {current:?}"), result, FAILED)?;
            unchanged(&cx, &key, current).await?;
        }
        for kind in 0..holding.len() {
            let (current, stale) = prepare(&cx, &key, there).await?;
            let Some(condition) = split(current, stale).1.get(kind).copied() else { continue };
            let removed = works("remove", &key, cx.backend.remove(&key, condition).await)?;
            same(&format!("remove with {condition:?} over {current:?}"), &removed, &there)?;
            cx.absent(&key).await?;
        }
    }
    Ok(())
}

pub(super) async fn of_reads(cx: Context) -> Verdict {
    let key = cx.key("k");
    for there in [true, false] {
        let (current, stale) = prepare(&cx, &key, there).await?;
        let (refusing, holding) = split(current, stale);
        for condition in refusing {
            let result = cx.backend.read(&key, reading(condition)).await;
            fails(&format!("read with {condition:?} over {current:?}"), result, FAILED)?;
        }
        for condition in holding {
            let found = works("read", &key, cx.backend.read(&key, reading(condition)).await)?;
            let version = found.map(|object| object.head.version);
            same(&format!("read with {condition:?}"), &version, &current)?;
        }
    }
    Ok(())
}

fn reading(condition: Condition) -> ReadOptions {
    ReadOptions { condition, ..ReadOptions::default() }
}

/// Races writers with one condition; checks that one wins, that the others are told so, and that
/// the winner's bytes and version stay.
async fn one_wins(cx: &Context, key: &str, condition: Condition) -> Verdict {
    let results: Vec<Result<Version>> = race(cx.options.racing_writers, |number| {
        let (cx, key) = (cx.racer(number), key.to_owned());
        async move { cx.put_if(&key, format!("writer {number}"), condition).await }
    })
    .await?;
    let losers = results.iter().filter(|result| lost(result)).count();
    let mut winners = Vec::new();
    for (number, result) in results.into_iter().enumerate() {
        match result {
            Ok(version) => winners.push((number, version)),
            Err(error) => fails::<()>("a lost race", Err(error), FAILED)?,
        }
    }
    same("writers that lost", &losers, &(cx.options.racing_writers.saturating_sub(1)))?;
    let [(number, version)] = winners.as_slice() else {
        return Err(format!("expected one winner with {condition:?}, saw {winners:?}"));
    };
    let object = cx.holds(key, format!("writer {number}").as_bytes()).await?;
    same("version of the winner", &object.head.version, version)
}

pub(super) async fn race_to_create(cx: Context) -> Verdict {
    for round in 0..20 {
        one_wins(&cx, &cx.key(round), Condition::IfAbsent).await?;
    }
    Ok(())
}

pub(super) async fn race_to_replace(cx: Context) -> Verdict {
    for round in 0..20 {
        let key = cx.key(round);
        let version = cx.put(&key, "before").await?;
        one_wins(&cx, &key, Condition::IfMatch(version)).await?;
    }
    Ok(())
}

pub(super) async fn race_to_remove(cx: Context) -> Verdict {
    for round in 0..20 {
        let key = cx.key(round);
        let version = cx.put(&key, "before").await?;
        let results = race(cx.options.racing_writers, |number| {
            let (cx, key) = (cx.racer(number), key.clone());
            async move { cx.backend.remove(&key, Condition::IfMatch(version)).await }
        })
        .await?;
        let removed = results.iter().filter(|result| matches!(result, Ok(true))).count();
        same("racing removals that removed", &removed, &1)?;
        let losers = results.iter().filter(|result| lost(result)).count();
        same("racing removals that were refused", &losers, &(results.len() - 1))?;
        cx.absent(&key).await?;
    }
    Ok(())
}

pub(super) async fn counter(cx: Context) -> Verdict {
    const INCREMENTS: usize = 25;
    let key = cx.key("k");
    cx.put(&key, "0").await?;
    let verdicts: Vec<Verdict> = race(cx.options.racing_writers, |number| {
        let (cx, key) = (cx.racer(number), key.clone());
        async move {
            for _ in 0..INCREMENTS {
                loop {
                    let (count, version) = count(&cx, &key).await?;
                    let next = (count + 1).to_string();
                    let result = cx.put_if(&key, next, Condition::IfMatch(version)).await;
                    if lost(&result) {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    works("compare-and-swap", &key, result)?;
                    break;
                }
            }
            Ok(())
        }
    })
    .await?;
    verdicts.into_iter().collect::<Verdict>()?;
    let (total, _) = count(&cx, &key).await?;
    same("increments", &total, &(INCREMENTS * cx.options.racing_writers))
}

async fn count(cx: &Context, key: &str) -> Outcome<(usize, Version)> {
    let object = cx.object(key).await?;
    let text = String::from_utf8_lossy(&object.value);
    let count = text.parse().map_err(|_| format!("expected a number, saw {text:?}"))?;
    Ok((count, object.head.version))
}
