//! Transactions that race are serializable, and keep what they are asked to keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::context::{Context, Outcome, ensure, race, same, works};
use super::history::{self, Committed};
use super::suite::Verdict;
use crate::env::SeededRandom;
use crate::error::{Result as StorageResult, StorageError};
use crate::options::StorageOptions;
use crate::transaction::{Scope, Transaction};

/// Lists that transactions read and append to.
const LISTS: usize = 5;

/// A namespace beside the suite's own.
const ELSEWHERE: &str = "conformance-b";

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
    let versions = works("commit", "", one.commit().await)?.versions;
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
    race_over_lists(cx, None).await
}

/// As [`serializable`], with every other list in another namespace.
pub(super) async fn namespaces(cx: Context) -> Verdict {
    race_over_lists(cx, Some(ELSEWHERE)).await
}

async fn race_over_lists(cx: Context, elsewhere: Option<&'static str>) -> Verdict {
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
                let attempt = attempt(&cx, &keys, elsewhere, &clock, &mut random, number);
                history.extend(attempt.await?);
            }
            Outcome::Ok(history)
        }
    });
    let mut history = Vec::new();
    for racer in racers.await? {
        history.extend(racer?);
    }
    let mut lists = BTreeMap::new();
    let mut transaction = begin(&cx)?;
    for (list, key) in keys.iter().enumerate() {
        let scope = works("namespace", "", scope_of(&mut transaction, list, elsewhere).await)?;
        let held = works("get", key, scope.get(key).await)?;
        if elsewhere.is_some() {
            works("delete", key, scope.delete(key))?;
        }
        lists.insert(list, numbers(held.as_ref()));
    }
    works("commit", "", transaction.commit().await)?;
    ensure!(history.len() == 4 * EACH as usize, "expected all to be committed");
    history::check(&history, &lists)
}

/// The namespace of a list.
async fn scope_of<'t>(
    transaction: &'t mut Transaction,
    list: usize,
    elsewhere: Option<&str>,
) -> StorageResult<&'t mut Scope> {
    match elsewhere.filter(|_| list % 2 == 1) {
        Some(name) => transaction.namespace(name).await,
        None => transaction.namespace("").await,
    }
}

/// Runs a transaction once; `None` where it was overtaken.
async fn attempt(
    cx: &Context,
    keys: &[String],
    elsewhere: Option<&str>,
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
        let scope = works("namespace", "", scope_of(&mut transaction, list, elsewhere).await)?;
        let held = match scope.get(key).await {
            Err(StorageError::Conflict(_)) => return Ok(None),
            held => works("get", key, held)?,
        };
        committed.read.insert(list, numbers(held.as_ref()));
        tokio::task::yield_now().await;
        if appends && random.next_u64().is_multiple_of(2) {
            let mut value = held.map_or_else(Vec::new, |held| held.to_vec());
            value.extend_from_slice(&number.to_be_bytes());
            works("put", key, scope.put(key, value, StorageOptions::default()))?;
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

/// What is written in two namespaces is written in both or in none.
pub(super) async fn apart(cx: Context) -> Verdict {
    let other = cx.on(works("namespace", ELSEWHERE, cx.backend.namespace(ELSEWHERE).await)?);
    let key = cx.key("k");
    let mut both = begin(&cx)?;
    works("put", &key, both.put(&key, "here", StorageOptions::default()))?;
    let scope = works("namespace", ELSEWHERE, both.namespace(ELSEWHERE).await)?;
    same("a read elsewhere", &works("get", &key, scope.get(&key).await)?, &None)?;
    works("put", &key, scope.put(&key, "there", StorageOptions::default()))?;
    let committed = works("commit", "", both.commit().await)?;
    let here = cx.holds(&key, b"here").await?.head.version;
    let there = other.holds(&key, b"there").await?.head.version;
    same("versions", &committed.versions, &BTreeMap::from([(key.clone(), here)]))?;
    let elsewhere = BTreeMap::from([(key.clone(), there)]);
    same(
        "versions elsewhere",
        &committed.elsewhere,
        &BTreeMap::from([(ELSEWHERE.to_owned(), elsewhere)]),
    )?;

    let mut overtaken = begin(&cx)?;
    works("get", &key, overtaken.get(&key).await)?;
    works("delete", &key, overtaken.delete(&key))?;
    let scope = works("namespace", ELSEWHERE, overtaken.namespace(ELSEWHERE).await)?;
    works("get", &key, scope.get(&key).await)?;
    let newer = other.put(&key, "newer").await?;
    match overtaken.commit().await {
        Err(StorageError::Conflict(detail)) => {
            same("namespace of the conflict", &detail.namespace.as_deref(), &Some(ELSEWHERE))?;
            same("key of the conflict", &detail.key, &Some(key.clone()))?;
        }
        answer => return Err(format!("expected a conflict elsewhere, saw {answer:?}")),
    }
    same("what was to be removed", &cx.holds(&key, b"here").await?.head.version, &here)?;
    same("what overtook", &other.holds(&key, b"newer").await?.head.version, &newer)?;
    other.delete(&key).await.map(|_| ())
}

/// A listing shows the transaction's own writes, and no key comes or goes within it unnoticed.
pub(super) async fn listed(cx: Context) -> Verdict {
    let key = |name: &str| cx.key(format!("l/{name}"));
    let prefix = format!("{}l/", cx.tag);
    for name in ["b", "d", "f"] {
        cx.put(&key(name), name).await?;
    }
    let mut own = begin(&cx)?;
    works("put", "", own.put(&key("a"), "", StorageOptions::default()))?;
    works("put", "", own.put(&key("e"), "", StorageOptions::default()))?;
    works("delete", "", own.delete(&key("b")))?;
    for (limit, names) in [(10, "adef"), (3, "ade"), (2, "ad"), (1, "a")] {
        let keys: Vec<_> = names.chars().map(|name| key(&name.to_string())).collect();
        same("keys", &works("list", &prefix, own.list(&prefix, limit).await)?, &keys)?;
    }
    works("commit", "", own.commit().await)?;
    let keys = works("list", &prefix, cx.backend.list_keys(&prefix, 10).await)?;
    same("keys after the commit", &keys.len(), &4)?;

    // Keys are a, d, e, f; two of them are listed.
    for (changed, holds) in [("g", true), ("f", true), ("c", false), ("d", false), ("A", false)] {
        let mut lists = begin(&cx)?;
        let keys = works("list", &prefix, lists.list(&prefix, 2).await)?;
        same("keys of a cut listing", &keys.len(), &2)?;
        let was = cx.read(&key(changed)).await?.map(|object| object.value);
        match &was {
            Some(_) => drop(cx.delete(&key(changed)).await?),
            None => drop(cx.put(&key(changed), "new").await?),
        }
        match (holds, lists.commit().await) {
            (true, Ok(_)) | (false, Err(StorageError::Conflict(_))) => {}
            (_, answer) => return Err(format!("{changed} came or went: saw {answer:?}")),
        }
        match was {
            Some(was) => drop(cx.put(&key(changed), was).await?),
            None => drop(cx.delete(&key(changed)).await?),
        }
    }
    let mut whole = begin(&cx)?;
    same("all keys", &works("list", &prefix, whole.list(&prefix, 4).await)?.len(), &4)?;
    let mut rest = begin(&cx)?;
    same("and no more", &works("list", &prefix, rest.list(&prefix, 5).await)?.len(), &4)?;
    cx.put(&key("z"), "past all").await?;
    for lists in [whole, rest] {
        if !matches!(lists.commit().await, Err(StorageError::Conflict(_))) {
            return Err("a key that came after all was not noticed".to_owned());
        }
    }
    Ok(())
}

/// Racers that each add a key while there are few do not add too many.
pub(super) async fn phantoms(cx: Context) -> Verdict {
    const MOST: usize = 10;
    let prefix = format!("{}p/", cx.tag);
    let racers = race(4, |racer| {
        let (cx, prefix) = (cx.racer(racer), prefix.clone());
        async move {
            let mut number = 0;
            loop {
                let mut transaction = begin(&cx)?;
                let keys = works("list", &prefix, transaction.list(&prefix, 100).await)?;
                if keys.len() >= MOST {
                    return Outcome::Ok(());
                }
                tokio::task::yield_now().await;
                let key = cx.key(format!("p/{racer}-{number}"));
                works("put", &key, transaction.put(&key, "", StorageOptions::default()))?;
                match transaction.commit().await {
                    Ok(_) => number += 1,
                    Err(StorageError::Conflict(_)) => {}
                    Err(error) => return works("commit", &key, Err(error)),
                }
            }
        }
    });
    for racer in racers.await? {
        racer?;
    }
    let keys = works("list", &prefix, cx.backend.list_keys(&prefix, 100).await)?;
    same("keys that were added", &keys.len(), &MOST)
}

fn numbers(list: Option<&Bytes>) -> Vec<u32> {
    let four = |four: &[u8]| four.try_into().map_or(0, u32::from_be_bytes);
    list.map_or_else(Vec::new, |list| list.chunks(4).map(four).collect())
}
