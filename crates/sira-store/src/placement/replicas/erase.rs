//! Removals of replicated objects.

use std::sync::Arc;

use super::answers::enough;
use super::{is_of_backend, without_effect};
use crate::backend::StorageBackend;
use crate::error::{Result, Retry, StorageError};
use crate::options::Condition;
use crate::placement::backend::{Found, PlacedBackend};
use crate::placement::entry::{Copies, Entry};
use crate::placement::replication::Replication;

impl PlacedBackend {
    /// Removes an object from its replicas and says whether there was one; `None` when it must be
    /// tried again.
    pub(in crate::placement) async fn erase_replicas(
        &self,
        replication: &Replication,
        key: &str,
        before: Found,
        condition: Condition,
    ) -> Result<Option<bool>> {
        if self.is_known_gone(&before) && before.entry.copies.left.is_empty() {
            condition.require(None)?;
            return Ok(Some(false));
        }
        let writing = self.mender.while_writing(key, &*self.env);
        // Should nobody end this, the replicas are level with where the object lies, or without it.
        let others = replication.from(&before.entry.at).split_off(1);
        let Some(begun) = self.begin_write(key, &before, &others).await? else {
            return Ok(None);
        };
        let result = self.erase_begun(replication, key, begun, before, condition).await;
        writing.ended();
        result
    }

    async fn erase_begun(
        &self,
        replication: &Replication,
        key: &str,
        begun: Found,
        mut before: Found,
        condition: Condition,
    ) -> Result<Option<bool>> {
        let head = |backend: Arc<dyn StorageBackend>| async move { backend.head(key).await };
        let newest = match self.is_known_gone(&before) {
            true => Ok(None),
            false => self.newest_for_sure(key, &before, &head).await,
        };
        let judged = newest.and_then(|found| {
            let held = found.map(|(_, head)| head.version);
            condition.require(held).map(|()| held.is_some())
        });
        let there = match judged {
            Ok(there) => there,
            Err(error) => {
                let error = without_effect(error);
                self.abandon_write(key, &begun, &mut before, &error).await;
                return Err(error);
            }
        };

        let at = begun.entry.at.clone();
        let mut names = replication.from(&at);
        let is_replica = |name: &String| replication.replicas.contains(name);
        names.extend(begun.entry.copies.left.iter().filter(|name| !is_replica(name)).cloned());
        let removals = names.iter().map(|name| self.clear(key, name, None));
        let answers = enough(removals, replication.needed(), &*self.env).await;
        let is_clear = |answer: &Option<Result<()>>| matches!(answer, Some(Ok(())));
        let counted = names
            .iter()
            .zip(&answers)
            .filter(|(name, answer)| (is_replica(name) || **name == at) && is_clear(answer));
        let cleared: Vec<&String> = counted.map(|(name, _)| name).collect();
        if cleared.len() >= replication.needed()
            && let Some(first) = cleared.first()
        {
            if **first != at {
                self.failed_over(key, &at, first);
            }
            let left = names.iter().zip(&answers).filter(|(_, answer)| !is_clear(answer));
            let left = left.map(|(name, _)| name.clone()).collect();
            let copies = Copies { left, absent: true, ..Copies::default() };
            let first = (*first).clone();
            let said = self.conclude(key, begun, &first, copies).await;
            let said = said.map_err(|error| error.with_retry(Retry::Ambiguous))?;
            return Ok(said.then_some(there));
        }

        let failure = answers.iter().flatten().find_map(|answer| answer.as_ref().err());
        let error = match failure {
            Some(error) if !is_of_backend(error) => error.same_kind(error.detail().message.clone()),
            failure => StorageError::unavailable(format!(
                "{} of {} replicas took the removal and {} are needed{}",
                cleared.len(),
                replication.replicas.len(),
                replication.needed(),
                failure.map_or_else(String::new, |error| format!(": {error}")),
            )),
        };
        let stays = |answer: &Option<Result<()>>| matches!(answer, Some(Err(error)) if error.retry() != Retry::Ambiguous);
        if answers.first().is_some_and(|answer| !stays(answer)) {
            // It may be gone from where it lay; then it is removed from the others, too.
            self.note(key);
            return Err(error.with_retry(Retry::Ambiguous));
        }
        // The object is what it was, on those that did not remove it.
        let mut copies = self.entry_before(&before).copies;
        copies.writing = None;
        for (name, answer) in names.iter().zip(&answers).skip(1) {
            if !stays(answer)
                && let Some(version) = copies.on.get_mut(name)
            {
                *version = None;
            }
        }
        let entry = Entry { copies, ..before.entry };
        let _ = self.entries.replace(key, &entry, begun.version).await;
        self.note(key);
        Err(error.with_retry(Retry::Temporary))
    }
}
