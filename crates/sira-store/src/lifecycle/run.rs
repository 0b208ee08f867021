//! Looking at objects, and doing what the rules say.

use super::{
    Facts, LifecycleAction, LifecycleCursor, LifecycleOptions, LifecycleReport, LifecycleRule,
    decide, is_own,
};
use crate::backend::{ListEntry, ListOptions, ObjectHead};
use crate::client::{LifecycleSpace, StorageClient};
use crate::error::{Result, StorageError};
use crate::limits::LIST_LIMIT_MAX;
use crate::options::Condition;

/// Objects of a part where nothing is said.
const LIMIT_DEFAULT: usize = 1_000;

/// What came of a rule for an object.
enum Done {
    /// It was done, with so many bytes.
    Bytes(u64),
    /// Nothing was to be done, or the object has changed since it was looked at.
    Nothing,
}

impl StorageClient {
    /// Looks at the next objects, and does with each what the first rule says that it fits. What fails
    /// with one object does not keep others from it.
    ///
    /// # Errors
    /// As [`LifecycleRule::check`]. What a namespace cannot be listed with is told in the report, and
    /// the rest is gone on with.
    pub async fn run_lifecycle(
        &self,
        rules: &[LifecycleRule],
        options: &LifecycleOptions,
        now_ms: u64,
    ) -> Result<LifecycleReport> {
        rules.iter().try_for_each(LifecycleRule::check)?;
        let mut report = LifecycleReport::default();
        let from = options.from.clone().unwrap_or_default();
        let limit = if options.limit == 0 { LIMIT_DEFAULT } else { options.limit };
        let names = options.namespaces.range(from.namespace.clone()..);
        for name in names.filter(|name| !is_own(name)) {
            let rules: Vec<_> = rules.iter().filter(|rule| rule.is_about(name)).collect();
            let Some(first) = rules.first() else { continue };
            let after = from.after.clone().filter(|_| *name == from.namespace);
            let part = Part { name, rules: &rules, limit, dry_run: options.dry_run, now_ms };
            match part.run(self, after, &mut report).await {
                Ok(None) => {}
                Ok(next @ Some(_)) => {
                    report.next = next;
                    return Ok(report);
                }
                Err(error) => report.fail(first, name.clone(), &error),
            }
        }
        Ok(report)
    }
}

/// A part of a run in one namespace.
struct Part<'a> {
    name: &'a str,
    rules: &'a [&'a LifecycleRule],
    limit: usize,
    dry_run: bool,
    now_ms: u64,
}

impl Part<'_> {
    async fn run(
        &self,
        client: &StorageClient,
        mut after: Option<String>,
        report: &mut LifecycleReport,
    ) -> Result<Option<LifecycleCursor>> {
        let space = client.namespace(self.name).lifecycle_space().await?;
        loop {
            let left = self.limit.saturating_sub(report.objects as usize);
            if left == 0 {
                return Ok(Some(LifecycleCursor { namespace: self.name.to_owned(), after }));
            }
            let options = ListOptions {
                start_after: after,
                limit: left.min(LIST_LIMIT_MAX),
                ..ListOptions::default()
            };
            let page = space.backend.list(options).await?;
            let sized = space.backend.capabilities().list_sizes;
            for entry in page.entries {
                report.objects += 1;
                self.look_at(&space, entry, sized, report).await;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(None),
            }
        }
    }

    async fn look_at(
        &self,
        space: &LifecycleSpace,
        entry: ListEntry,
        sized: bool,
        report: &mut LifecycleReport,
    ) {
        let ListEntry { key, version, size, .. } = entry;
        let facts = Facts { version, size: sized.then_some(size), metadata: None };
        let rule = match decide(self.rules, &key, facts, self.now_ms) {
            Ok(None) => return,
            Ok(Some(rule)) if rule.action == LifecycleAction::Keep => {
                return report.count(rule, size);
            }
            Ok(Some(rule)) => Some(rule),
            Err(()) => None,
        };
        let object = || format!("{}/{key}", self.name);
        let head = match space.backend.head(&key).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => {
                let Some(rule) = rule.or(self.rules.first().copied()) else { return };
                return report.fail(rule, object(), &error);
            }
        };
        let known = Facts {
            version: Some(head.version),
            size: Some(head.size),
            metadata: Some(&head.metadata),
        };
        let Ok(Some(rule)) = decide(self.rules, &key, known, self.now_ms) else { return };
        match self.apply(space, rule, &key, &head).await {
            Ok(Done::Bytes(bytes)) => report.count(rule, bytes),
            Ok(Done::Nothing) | Err(StorageError::PreconditionFailed(_)) => {}
            // A rule about all namespaces is about those in which it can be done.
            Err(StorageError::Unsupported(_)) if rule.namespaces.is_empty() => {}
            Err(error) => report.fail(rule, object(), &error),
        }
    }

    async fn apply(
        &self,
        space: &LifecycleSpace,
        rule: &LifecycleRule,
        key: &str,
        head: &ObjectHead,
    ) -> Result<Done> {
        match &rule.action {
            LifecycleAction::Keep => Ok(Done::Bytes(head.size)),
            LifecycleAction::Expire => {
                let removed = match self.dry_run {
                    true => true,
                    false => space.backend.remove(key, Condition::IfMatch(head.version)).await?,
                };
                Ok(if removed { Done::Bytes(head.size) } else { Done::Nothing })
            }
            LifecycleAction::Move { to } => {
                let moved = space.relocate(key, to, self.dry_run).await?;
                Ok(if moved { Done::Bytes(head.size) } else { Done::Nothing })
            }
            LifecycleAction::Compress { level } => {
                let saved = space.compress(key, head, *level, self.dry_run).await?;
                Ok(saved.map_or(Done::Nothing, Done::Bytes))
            }
        }
    }
}
