//! Writes of replicated objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::answers::enough;
use super::{is_of_backend, without_effect};
use crate::backend::StorageBackend;
use crate::error::{Result, Retry, StorageError};
use crate::key::check_described;
use crate::options::{Condition, StorageOptions};
use crate::placement::backend::{ATTEMPTS, Found, PlacedBackend};
use crate::placement::entry::{Copies, Entry};
use crate::placement::replication::{Consistency, Replication};
use crate::placement::write::Wrote;
use crate::version::Version;

/// What came of a write on the replicas, each with its name; the one that the object lay on first.
struct Outcome {
    version: Version,
    answers: Vec<(String, Option<Result<()>>)>,
}

/// What is known of one replica after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Perhaps,
}

impl Holds {
    fn of(answer: Option<&Result<()>>) -> Self {
        match answer {
            Some(Ok(())) => Self::Yes,
            Some(Err(error)) if error.retry() != Retry::Ambiguous => Self::No,
            _ => Self::Perhaps,
        }
    }
}

impl PlacedBackend {
    /// Writes an object to its replicas; `found` is its entry, which nobody is about to change.
    pub(in crate::placement) async fn write_replicas(
        &self,
        replication: &Replication,
        key: &str,
        found: &mut Found,
        value: &Bytes,
        options: &StorageOptions,
    ) -> Result<Wrote> {
        for name in &replication.replicas {
            let most = self.backend(name)?.capabilities().value_bytes_max;
            if value.len() as u64 > most {
                return Err(StorageError::too_large(format!(
                    "the replica takes values of up to {most} bytes, this one has {}",
                    value.len()
                ))
                .with_backend(name));
            }
        }
        if !replication.replicas.contains(&found.entry.at) {
            // It lay elsewhere before there were replicas.
            *found = self.begin_move(key, found, replication.preferred()).await?;
        }
        let mut exactly = StorageOptions { condition: Condition::Always, ..options.clone() };
        // All replicas expire at the same time.
        let checked = check_described(key, options, self.env.now_ms())?;
        (exactly.ttl, exactly.expires_at_ms) = (None, checked.expires_at_ms);
        let writing = self.mender.while_writing(key, &*self.env);
        let others = replication.from(&found.entry.at).split_off(1);
        let Some(begun) = self.begin_write(key, found, &others).await? else {
            return Ok(Wrote::Overtaken);
        };
        let condition = options.condition;
        let result =
            self.write_begun(replication, key, (begun, found), value, (exactly, condition)).await;
        writing.ended();
        result
    }

    async fn write_begun(
        &self,
        replication: &Replication,
        key: &str,
        (begun, before): (Found, &mut Found),
        value: &Bytes,
        (mut exactly, condition): (StorageOptions, Condition),
    ) -> Result<Wrote> {
        let held = match self.judge(replication, key, before, (condition, exactly.version)).await {
            Ok(held) => held,
            Err(error) => {
                // Nothing was done.
                let error = without_effect(error);
                self.abandon_write(key, &begun, before, &error).await;
                return Err(error);
            }
        };
        let outcome =
            match self.put_replicas(replication, key, &begun, value, &mut exactly, held).await {
                Ok(outcome) => outcome,
                Err(error) => {
                    self.note(key);
                    return Err(error);
                }
            };
        self.end_replicas(replication, key, (begun, before), &exactly, outcome, condition).await
    }

    /// Judges condition and version of a write while nobody else writes, and gives the version that
    /// is to be outdone.
    async fn judge(
        &self,
        replication: &Replication,
        key: &str,
        before: &Found,
        (condition, given): (Condition, Option<Version>),
    ) -> Result<Option<Version>> {
        let known = before.entry.copies.version();
        if condition == Condition::Always && given.is_none() {
            return Ok(known);
        }
        let head = |backend: Arc<dyn StorageBackend>| async move { backend.head(key).await };
        let held = match self.is_known_gone(before) {
            true => None,
            false => self.newest_for_sure(key, before, &head).await?.map(|(_, head)| head.version),
        };
        condition.require(held)?;
        if let (Some(given), Some(held)) = (given, held.max(known))
            && given <= held
        {
            let holds = |version: &&Option<u64>| **version == Some(given.as_u64());
            let holders = 1 + before.entry.copies.on.values().filter(holds).count();
            if given == held && holders < replication.needed() {
                // Who repeats a write of this version is not to take it for acknowledged.
                return Err(StorageError::unavailable(
                    "the version is there, and not on as many replicas as are needed yet",
                ));
            }
            return Err(StorageError::conflict(format!(
                "the key holds version {held}, and {given} is not greater"
            )));
        }
        Ok(held.max(known))
    }

    /// Puts the value on the replicas, under a version that is greater than any that they hold.
    async fn put_replicas(
        &self,
        replication: &Replication,
        key: &str,
        begun: &Found,
        value: &Bytes,
        exactly: &mut StorageOptions,
        mut held: Option<Version>,
    ) -> Result<Outcome> {
        let given = exactly.version;
        let names = replication.from(&begun.entry.at);
        // Replicas that an earlier attempt may have reached.
        let mut reached = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let (now_ms, random) = (self.env.now_ms(), self.env.random_u64());
            let drawn = || {
                let next = self.clock.next_spread(now_ms, random);
                let outdone = held.filter(|held| next <= *held);
                outdone.map_or(next, |held| self.clock.next_after(held, now_ms, random))
            };
            let version = given.unwrap_or_else(drawn);
            exactly.version = Some(version);
            let puts = names.iter().map(|name| self.put_copy(key, name, value, exactly));
            let answers = match replication.consistency {
                Consistency::Strong => enough(puts, replication.needed(), &*self.env).await,
                // One after the other, until one takes it.
                Consistency::Eventual | Consistency::Weak => {
                    let mut answers = Vec::new();
                    for put in puts {
                        let answer = put.await;
                        let next = matches!(&answer, Err(error) if is_of_backend(error));
                        answers.push(Some(answer));
                        if !next {
                            break;
                        }
                    }
                    answers
                }
            };
            let refused = |answer: &Option<Result<()>>| {
                matches!(answer, Some(Err(StorageError::Conflict(_))))
            };
            if given.is_none() && answers.iter().any(refused) {
                // What lies there was never acknowledged, or the clock of another process is ahead.
                held = held.max(Some(version));
                let perhaps = names.iter().zip(&answers).filter(|(_, answer)| {
                    answer.is_none() || Holds::of(answer.as_ref()) != Holds::No
                });
                reached.extend(perhaps.map(|(name, _)| name.clone()));
                for (name, _) in names.iter().zip(&answers).filter(|(_, answer)| refused(answer)) {
                    if let Ok(head) = self.backend(name)?.head(key).await {
                        held = held.max(head.map(|head| head.version));
                    }
                }
                continue;
            }
            let mut answers = answers.into_iter();
            let answers = names.into_iter().map(|name| {
                let answer = answers.next().flatten();
                let unknown = Holds::of(answer.as_ref()) == Holds::No && reached.contains(&name);
                (name, answer.filter(|_| !unknown))
            });
            let answers = answers.collect();
            return Ok(Outcome { version, answers });
        }
        Err(self.restless().with_retry(Retry::Ambiguous))
    }

    /// Says in the entry what came of a write.
    async fn end_replicas(
        &self,
        replication: &Replication,
        key: &str,
        (begun, before): (Found, &mut Found),
        written: &StorageOptions,
        outcome: Outcome,
        condition: Condition,
    ) -> Result<Wrote> {
        let Outcome { version, answers } = outcome;
        let holds = |answer: &Option<Result<()>>| Holds::of(answer.as_ref());
        let took = answers.iter().filter(|(_, answer)| holds(answer) == Holds::Yes).count();
        let strong = replication.consistency == Consistency::Strong;
        let mut copies = Copies {
            // Those that were not asked follow.
            on: replication.replicas.iter().map(|name| (name.clone(), None)).collect(),
            left: begun.entry.copies.left.clone(),
            expires_at_ms: written.expires_at_ms,
            ..Copies::default()
        };
        for (name, answer) in &answers {
            let held = (holds(answer) == Holds::Yes).then_some(version.as_u64());
            if held.is_none() && strong {
                match answer {
                    Some(Err(error)) => self.fell_behind(name, error),
                    _ => self.figures.fell_behind(),
                }
            }
            copies.on.insert(name.clone(), held);
        }
        let first = answers.iter().find(|(_, answer)| holds(answer) == Holds::Yes);
        if let (true, Some((at, _))) = (took >= replication.needed(), first) {
            copies.on.remove(at);
            if *at != begun.entry.at {
                self.failed_over(key, &begun.entry.at, at);
            }
            self.remove_left_now(key, &mut copies).await;
            let unknown = |error: StorageError| error.with_retry(Retry::Ambiguous);
            if self.conclude(key, begun, at, copies).await.map_err(unknown)? {
                return Ok(Wrote::Done(version));
            }
            return self.look_after(key, at, version, condition).await.map_err(unknown);
        }

        let answers_of_all = replication.replicas.len();
        let needed = replication.needed();
        let mut failures = answers.iter().filter_map(|(name, answer)| match answer {
            Some(Err(error)) => Some((name, error)),
            _ => None,
        });
        let error = match failures.next() {
            // Of the request: every replica would have said so.
            Some((name, error)) if !is_of_backend(error) => {
                error.same_kind(error.detail().message.clone()).with_backend(name)
            }
            Some((name, error)) => StorageError::unavailable(format!(
                "{took} of {answers_of_all} replicas took the write and {needed} are needed: {name}: \
                 {error}",
            ))
            .with_backend(name),
            None => StorageError::unavailable("no replica took the write"),
        };
        let (name, at) = (&begun.entry.at, answers.first());
        match at.map_or(Holds::No, |(_, answer)| holds(answer)) {
            Holds::No => {
                // The object is what it was; what took the write anyway is none of its copies.
                let mut copies = self.entry_before(before).copies;
                copies.writing = None;
                for (name, answer) in answers.iter().skip(1) {
                    if (strong || answer.is_some()) && holds(answer) != Holds::No {
                        copies.on.insert(name.clone(), None);
                    }
                }
                let entry = Entry { copies, ..before.entry.clone() };
                if let Ok(Some(version)) = self.entries.replace(key, &entry, begun.version).await {
                    (before.entry, before.version) = (entry, Some(version));
                }
                self.note(key);
                Err(without_effect(error))
            }
            Holds::Yes => {
                copies.on.remove(name);
                let at = name.clone();
                let said = self.conclude(key, begun, &at, copies).await;
                tracing::debug!(?said, "a write has not reached enough replicas");
                Err(error.with_retry(Retry::Ambiguous))
            }
            _ => {
                self.note(key);
                Err(error.with_retry(Retry::Ambiguous))
            }
        }
    }

    /// Tells that an object lies on another replica from now on.
    pub(in crate::placement) fn failed_over(&self, key: &str, from: &str, to: &str) {
        self.figures.failed_over();
        match self.is_news(&self.told_failover_ms) {
            true => tracing::warn!(key, from, to, "a replica has taken the place of another"),
            false => tracing::debug!(key, from, to, "a replica has taken the place of another"),
        }
    }
}
