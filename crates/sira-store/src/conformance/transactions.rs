//! Transactions that race are serializable, and keep what they are asked to keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::context::{Context, Outcome, ensure, race, same, works};
use super::history::{self, Committed};
use super::suite::Verdict;
use crate::env::SeededRandom;
use crate::error::StorageError;
use crate::options::StorageOptions;
use crate::transaction::Transaction;

/// Lists that transactions read and append to.
const LISTS: usize = 5;

/// Transactions of each racer.
const EACH: u32 = 30;

fn begin(cx: &Context) -> Outcome<Transaction> {
    works("begin", "", Transaction::begin(Arc::clone(&cx.backend)))
}

pub(super) async fn whole(cx: Context) -> Verdict {
    let (a, b, c) = (cx.key("a"), cx.key("b"), cx.key("c"));
    cx.put(&a, "1").await?;
    let version = cx.put(&b, "1").await?;
    let mut one = begin(&cx)?;
    same("a read", &works("get", &a, one.get(&a).await)?, &Some(Bytes::from("1")))?;
    same("a read of nothing", &works("get", &c, one.get(&c).await)?, &None)?;
    works("put", &c, one.put(&c, "2", StorageOptions::default()))?;
    works("delete", &b, one.delete(&b))?;
    same(
        "a read of its own write",
        &works("get", &c, one.get(&c).await)?,
        &Some(Bytes::from("2")),
    )?;
    same("what it removed", &works("exists", &b, one.exists(&b).await)?, &false)?;
    // Nobody sees it yet.
    cx.absent(&c).await?;
    same("version before the commit", &cx.holds(&b, b"1").await?.head.version, &version)?;
    let versions = works("commit", "", one.commit().await)?;
    cx.absent(&b).await?;
    let written = cx.holds(&c, b"2").await?.head.version;
    same("versions of a commit", &versions, &BTreeMap::from([(c.clone(), written)]))?;

    let mut other = begin(&cx)?;
    works("get", &a, other.get(&a).await)?;
    works("put", &b, other.put(&b, "3", StorageOptions::default()))?;
    cx.put(&a, "changed").await?;
    match other.commit().await {
        Err(StorageError::Conflict(_)) => {}
        answer => return Err(format!("expected an overtaken commit to fail, saw {answer:?}")),
    }
    cx.absent(&b).await?;
    let mut left = begin(&cx)?;
    works("put", &b, left.put(&b, "4", StorageOptions::default()))?;
    left.rollback();
    cx.absent(&b).await
}

pub(super) async fn serializable(cx: Context) -> Verdict {
    let keys: Arc<[String]> = (0..LISTS).map(|list| cx.key(format!("list{list}"))).collect();
    let clock = Arc::new(AtomicU64::new(0));
    let racers = race(4, |racer| {
        let (cx, keys, clock) = (cx.racer(racer), Arc::clone(&keys), Arc::clone(&clock));
        async move {
            let mut random = SeededRandom::new(racer as u64 + 1);
            let mut history = Vec::new();
            let mut number = racer as u32 * 1_000_000;
            while history.len() < EACH as usize {
                number += 1;
                history.extend(attempt(&cx, &keys, &clock, &mut random, number).await?);
            }
            Outcome::Ok(history)
        }
    });
    let mut history = Vec::new();
    for racer in racers.await? {
        history.extend(racer?);
    }
    let mut lists = BTreeMap::new();
    for (list, key) in keys.iter().enumerate() {
        let held = works("get", key, cx.backend.get(key).await)?;
        lists.insert(list, numbers(held.as_ref()));
    }
    ensure!(history.len() == 4 * EACH as usize, "expected all to be committed");
    history::check(&history, &lists)
}

/// Runs a transaction once; `None` where it was overtaken.
async fn attempt(
    cx: &Context,
    keys: &[String],
    clock: &AtomicU64,
    random: &mut SeededRandom,
    number: u32,
) -> Outcome<Option<Committed>> {
    let begun = clock.fetch_add(1, Ordering::SeqCst);
    let mut committed = Committed { number, begun, ..Committed::default() };
    let mut transaction = begin(cx)?;
    let appends = !random.next_u64().is_multiple_of(4);
    for _ in 0..1 + random.next_u64() % 3 {
        let list = (random.next_u64() % LISTS as u64) as usize;
        let Some(key) = keys.get(list) else { continue };
        if committed.read.contains_key(&list) {
            continue;
        }
        let held = match transaction.get(key).await {
            Err(StorageError::Conflict(_)) => return Ok(None),
            held => works("get", key, held)?,
        };
        committed.read.insert(list, numbers(held.as_ref()));
        tokio::task::yield_now().await;
        if appends && random.next_u64().is_multiple_of(2) {
            let mut value = held.map_or_else(Vec::new, |held| held.to_vec());
            value.extend_from_slice(&number.to_be_bytes());
            works("put", key, transaction.put(key, value, StorageOptions::default()))?;
            committed.appended.insert(list);
        }
    }
    match transaction.commit().await {
        Ok(_) => {
            committed.ended = clock.fetch_add(1, Ordering::SeqCst);
            Ok(Some(committed))
        }
        Err(StorageError::Conflict(_)) => Ok(None),
        Err(error) => works("commit", "", Err(error)),
    }
}

fn numbers(list: Option<&Bytes>) -> Vec<u32> {
    let four = |four: &[u8]| four.try_into().map_or(0, u32::from_be_bytes);
    list.map_or_else(Vec::new, |list| list.chunks(4).map(four).collect())
}
