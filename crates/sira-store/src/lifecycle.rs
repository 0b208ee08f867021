//! What becomes of objects as they grow old: rules that remove them, move them to another backend or
//! compress them.
//!
//! For each object the first rule that fits decides, so that exceptions stand before what they are
//! exceptions from. What a rule does holds only while the object is of the version that was looked
//! at: what a writer changes meanwhile is looked at again the next time.

mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::options::CompressionType;
use crate::pattern::KeyPattern;
use crate::placement::Catalog;
use crate::seal::check_level;
use crate::version::Version;
use crate::version_history::is_kept_namespace;

/// Failures that are told one by one.
const FAILURES_MAX: usize = 20;

/// What a rule does with objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifecycleAction {
    /// Leaves them alone, whatever later rules say.
    Keep,
    /// Removes them. A namespace that keeps earlier versions keeps them so.
    Expire,
    /// Moves them to this backend, with their versions. The namespace has a catalog.
    Move {
        /// Name of the backend.
        to: String,
    },
    /// Compresses them with Zstandard, where that makes them smaller and they are not yet. They get
    /// the version after theirs, of the same time.
    Compress {
        /// How hard to try, -7 to 22.
        level: i32,
    },
}

impl LifecycleAction {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Expire => "expire",
            Self::Move { .. } => "move",
            Self::Compress { .. } => "compress",
        }
    }
}

/// Which objects, and what becomes of them. An object fits if all that is said holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name in reports.
    pub name: String,
    /// Patterns of namespaces; none is every one.
    pub namespaces: Vec<KeyPattern>,
    /// Pattern of keys.
    pub keys: Option<KeyPattern>,
    /// Metadata that the object has, the caller's own names and values.
    pub metadata: BTreeMap<String, String>,
    /// It was written at least so long ago.
    pub older_than: Option<Duration>,
    /// Its value has more bytes.
    pub larger_than: Option<u64>,
    /// Its value has fewer bytes.
    pub smaller_than: Option<u64>,
    /// What becomes of it.
    pub action: LifecycleAction,
}

/// What is known of an object so far.
#[derive(Debug, Clone, Copy, Default)]
struct Facts<'a> {
    version: Option<Version>,
    size: Option<u64>,
    metadata: Option<&'a Metadata>,
}

impl LifecycleRule {
    /// A rule about every object of these namespaces.
    #[must_use]
    pub fn new(name: impl Into<String>, action: LifecycleAction) -> Self {
        Self {
            name: name.into(),
            namespaces: Vec::new(),
            keys: None,
            metadata: BTreeMap::new(),
            older_than: None,
            larger_than: None,
            smaller_than: None,
            action,
        }
    }

    /// Checks what it says.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for a rule without a name, one that would remove all that there
    /// is, and a level that Zstandard has not.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() {
            return Err(StorageError::invalid_input("a rule of the lifecycle has a name"));
        }
        if let LifecycleAction::Compress { level } = self.action {
            check_level(CompressionType::Zstd, Some(level))?;
        }
        let everything = self.namespaces.is_empty()
            && self.keys.is_none()
            && self.metadata.is_empty()
            && self.older_than.is_none()
            && self.larger_than.is_none()
            && self.smaller_than.is_none();
        if everything && self.action == LifecycleAction::Expire {
            return Err(StorageError::invalid_input(format!(
                "the rule {:?} would remove every object; say which ones",
                self.name
            )));
        }
        Ok(())
    }

    /// Whether it is about objects of a namespace.
    #[must_use]
    pub fn is_about(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|one| one.matches(namespace))
    }

    /// Whether an object fits; `None` where more must be known.
    fn fits(&self, key: &str, facts: Facts<'_>, now_ms: u64) -> Option<bool> {
        if self.keys.as_ref().is_some_and(|pattern| !pattern.matches(key)) {
            return Some(false);
        }
        let mut unknown = false;
        let mut holds = |known: Option<bool>| match known {
            Some(holds) => holds,
            None => {
                unknown = true;
                true
            }
        };
        let aged = self.older_than.is_none_or(|age| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            holds(facts.version.map(|version| {
                !version.is_state() && version.time_ms().saturating_add(age_ms) <= now_ms
            }))
        });
        let large = self.larger_than.is_none_or(|bytes| holds(facts.size.map(|size| size > bytes)));
        let small =
            self.smaller_than.is_none_or(|bytes| holds(facts.size.map(|size| size < bytes)));
        let told = self.metadata.is_empty()
            || holds(facts.metadata.map(|metadata| {
                self.metadata.iter().all(|(name, value)| metadata.user.get(name) == Some(value))
            }));
        match aged && large && small && told {
            false => Some(false),
            true if unknown => None,
            true => Some(true),
        }
    }
}

/// The first rule that an object fits; an error of no content where more must be known first.
fn decide<'r>(
    rules: &[&'r LifecycleRule],
    key: &str,
    facts: Facts<'_>,
    now_ms: u64,
) -> std::result::Result<Option<&'r LifecycleRule>, ()> {
    for rule in rules {
        match rule.fits(key, facts, now_ms) {
            Some(true) => return Ok(Some(rule)),
            Some(false) => {}
            None => return Err(()),
        }
    }
    Ok(None)
}

/// Where a part of a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleCursor {
    /// The namespace.
    pub namespace: String,
    /// After this key of it.
    pub after: Option<String>,
}

/// How a part of a run is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleOptions {
    /// Namespaces to look at; those of the store's own are left out.
    pub namespaces: BTreeSet<String>,
    /// Where to begin; `None` is at the first.
    pub from: Option<LifecycleCursor>,
    /// Objects to look at; 0 is 1,000.
    pub limit: usize,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What a rule did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RuleFigures {
    /// `keep`, `expire`, `move` or `compress`.
    pub action: String,
    /// Objects that were removed, moved, compressed, or left alone by it.
    pub objects: u64,
    /// Bytes of their values; of compressed ones, the bytes that are saved.
    pub bytes: u64,
    /// Objects with which that failed.
    pub failed: u64,
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LifecycleReport {
    /// Objects that were looked at.
    pub objects: u64,
    /// What each rule did, by its name.
    pub rules: BTreeMap<String, RuleFigures>,
    /// Why it failed, by `namespace/key`, for the first of them.
    pub failures: BTreeMap<String, String>,
    /// Where the next part begins; `None` after the last object.
    pub next: Option<LifecycleCursor>,
}

impl LifecycleReport {
    /// Adds the part that follows.
    pub fn add(&mut self, part: Self) {
        self.objects += part.objects;
        for (name, figures) in part.rules {
            let sum = self.rules.entry(name).or_default();
            sum.action = figures.action;
            sum.objects += figures.objects;
            sum.bytes = sum.bytes.saturating_add(figures.bytes);
            sum.failed += figures.failed;
        }
        for (object, why) in part.failures {
            if self.failures.len() < FAILURES_MAX {
                self.failures.insert(object, why);
            }
        }
        self.next = part.next;
    }

    /// Objects with which something failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.rules.values().map(|figures| figures.failed).sum()
    }

    fn count(&mut self, rule: &LifecycleRule, bytes: u64) {
        let figures = self.figures(rule);
        figures.objects += 1;
        figures.bytes = figures.bytes.saturating_add(bytes);
    }

    fn fail(&mut self, rule: &LifecycleRule, object: String, error: &StorageError) {
        self.figures(rule).failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.insert(object, error.to_string());
        }
    }

    fn figures(&mut self, rule: &LifecycleRule) -> &mut RuleFigures {
        let figures = self.rules.entry(rule.name.clone()).or_default();
        rule.action.name().clone_into(&mut figures.action);
        figures
    }
}

/// Whether rules are never about a namespace.
fn is_own(namespace: &str) -> bool {
    Catalog::owns(namespace) || is_kept_namespace(namespace)
}

#[cfg(test)]
mod tests;
