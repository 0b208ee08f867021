//! Comparing replicas with the catalog and with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backend::{ListOptions, ReadOptions};
use crate::error::{Result, StorageError};
use crate::limits::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use crate::options::Condition;
use crate::placement::backend::{ATTEMPTS, PlacedBackend};
use crate::placement::copies::together;
use crate::placement::entry::{Copies, Entry};
use crate::placement::replication::Replication;
use crate::version::Version;

/// Objects that are looked at at the same time.
const AT_ONCE: usize = 16;

/// Failures that a report tells.
const FAILURES_MAX: usize = 100;

/// What becomes of objects that are on a replica and of which the catalog knows nothing there, such
/// as those that it held before it was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepairRule {
    /// They are left alone and counted; where the catalog knows the object, they are brought to it.
    #[default]
    Primary,
    /// The newest version on any replica becomes the object.
    Newest,
}

impl FromStr for RepairRule {
    type Err = StorageError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "primary" => Ok(Self::Primary),
            "newest" => Ok(Self::Newest),
            _ => Err(StorageError::invalid_input(format!(
                "{text:?} is no rule of a repair: give primary or newest"
            ))),
        }
    }
}

/// How replicas are compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairOptions {
    /// Begins after this key.
    pub start_after: Option<String>,
    /// Most keys that are looked at; 0 stands for [`LIST_LIMIT_DEFAULT`].
    pub limit: usize,
    /// Reads every copy and verifies its checksums; else versions are compared.
    pub deep: bool,
    /// Of what the catalog does not know.
    pub rule: RepairRule,
    /// All keys up to `start_after` were looked at and nothing was left behind, as the report of the
    /// part before says. Without it, a part that begins in the middle proves nothing of the whole.
    pub sound_before: bool,
}

/// What came of a repair, or of a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RepairReport {
    /// Objects that were looked at.
    pub objects: u64,
    /// Those of them of which something was not as it should be, and is now.
    pub repaired: u64,
    /// Copies that were damaged.
    pub damaged: u64,
    /// Objects that are on a replica and not in the namespace, and were left alone.
    pub strays: u64,
    /// Objects that are not level yet.
    pub behind: u64,
    /// Why, for the first of them, by key.
    pub failures: BTreeMap<String, String>,
    /// The key after which the next part begins; `None` at the end.
    pub next: Option<String>,
    /// Something is left behind, or a replica did not answer, or keys were left out, here or before.
    /// After a run without, the catalog knows every object, and listings do without a replica.
    pub unsound: bool,
}

impl RepairReport {
    /// Adds what came of the part after this one.
    pub fn add(&mut self, part: Self) {
        self.objects += part.objects;
        self.repaired += part.repaired;
        self.damaged += part.damaged;
        self.strays += part.strays;
        self.behind += part.behind;
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        self.failures.extend(part.failures.into_iter().take(room));
        self.next = part.next;
        self.unsound = part.unsound;
    }

    /// Whether all replicas are alike.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.behind == 0
    }
}

/// Versions that replicas list of a key.
type Listed = BTreeMap<String, Option<Version>>;

/// A page of keys.
struct KeysOfAll {
    keys: BTreeMap<String, Listed>,
    /// The backends that answered.
    known: BTreeSet<String>,
    /// Whether all did.
    all: bool,
    /// The last key of a page that is not the last.
    next: Option<String>,
}

/// What came of one object.
#[derive(Default)]
struct Looked {
    repaired: bool,
    stray: bool,
    behind: bool,
    damaged: u64,
}

impl PlacedBackend {
    /// Compares one part of the namespace on all its replicas, and makes them alike.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] in a namespace that is not replicated; those of the catalog. A
    /// replica that does not answer leaves objects behind, which the report counts.
    pub async fn repair(&self, options: &RepairOptions) -> Result<RepairReport> {
        let Some(replication) = &self.replication else {
            return Err(StorageError::unsupported(
                "the namespace is not replicated; name its replicas in the configuration",
            )
            .with_namespace(&*self.namespace));
        };
        let limit = match options.limit {
            0 => LIST_LIMIT_DEFAULT,
            limit => limit.min(LIST_LIMIT_MAX),
        };
        let KeysOfAll { keys, known, all, next } =
            self.keys_of_all(replication, options, limit).await?;
        let mut report = RepairReport { next, ..RepairReport::default() };
        let keys: Vec<(String, Listed)> = keys.into_iter().collect();
        for some in keys.chunks(AT_ONCE) {
            let looks = some
                .iter()
                .map(|(key, listed)| self.look_at(replication, options, key, listed, &known));
            for ((key, _), looked) in some.iter().zip(together(looks).await) {
                report.objects += 1;
                match looked {
                    Ok(looked) => {
                        report.repaired += u64::from(looked.repaired && !looked.behind);
                        report.strays += u64::from(looked.stray);
                        report.behind += u64::from(looked.behind);
                        report.damaged += looked.damaged;
                    }
                    Err(error) => {
                        report.behind += 1;
                        if report.failures.len() < FAILURES_MAX {
                            report.failures.insert(key.clone(), error.to_string());
                        }
                    }
                }
            }
        }
        let sound_before = options.start_after.is_none() || options.sound_before;
        report.unsound = !sound_before || !all || report.behind > 0 || report.strays > 0;
        if report.next.is_none() && !report.unsound {
            let record = self.entries.replicate(&replication.replicas, true).await?;
            *self.record.write() = record;
        }
        Ok(report)
    }

    /// Compares the namespace on all its replicas from a key on, part by part, and makes them alike.
    ///
    /// # Errors
    /// Those of [`Self::repair`].
    pub async fn repair_all(&self, options: &RepairOptions) -> Result<RepairReport> {
        let mut report = RepairReport::default();
        let mut options = options.clone();
        loop {
            report.add(self.repair(&options).await?);
            options.sound_before = !report.unsound;
            match &report.next {
                Some(next) => options.start_after = Some(next.clone()),
                None => return Ok(report),
            }
        }
    }

    /// Reads every copy of an object, replaces those that are damaged, and says whether all are as
    /// they should be.
    ///
    /// # Errors
    /// Those of the catalog and of the replicas; then it is tried again later.
    pub async fn heal(&self, key: &str) -> Result<bool> {
        let Some(replication) = &self.replication else { return Ok(false) };
        let options = RepairOptions { deep: true, ..RepairOptions::default() };
        let (listed, known) = (Listed::new(), BTreeSet::new());
        let looked = self.look_at(replication, &options, key, &listed, &known).await?;
        Ok(!looked.behind)
    }

    /// A page of the keys that the catalog or any replica knows, with what the replicas that answer
    /// list, and the names of those.
    async fn keys_of_all(
        &self,
        replication: &Replication,
        options: &RepairOptions,
        limit: usize,
    ) -> Result<KeysOfAll> {
        let page = || ListOptions {
            start_after: options.start_after.clone(),
            limit,
            ..ListOptions::default()
        };
        let mut keys: BTreeMap<String, Listed> = BTreeMap::new();
        let entries = self.entries.keys(page()).await?;
        let mut end = entries.next;
        for entry in entries.entries {
            keys.entry(entry.key).or_default();
        }
        let mut known = BTreeSet::new();
        let mut names = replication.replicas.clone();
        let home = self.record.read().home.clone();
        if !names.contains(&home) {
            names.push(home);
        }
        let lists = names.iter().map(|name| async move { self.backend(name)?.list(page()).await });
        for (name, listed) in names.iter().zip(together(lists).await) {
            let Ok(listed) = listed else { continue };
            known.insert(name.clone());
            end = match (end, listed.next) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            for entry in listed.entries {
                keys.entry(entry.key).or_default().insert(name.clone(), entry.version);
            }
        }
        if let Some(end) = &end {
            keys.retain(|key, _| key <= end);
        }
        if keys.len() > limit {
            end = keys.keys().nth(limit - 1).cloned();
            keys.retain(|key, _| end.as_ref().is_none_or(|end| key <= end));
        }
        Ok(KeysOfAll { keys, all: known.len() == names.len(), known, next: end })
    }

    /// Looks at one object, and makes its replicas alike.
    async fn look_at(
        &self,
        replication: &Replication,
        options: &RepairOptions,
        key: &str,
        listed: &Listed,
        known: &BTreeSet<String>,
    ) -> Result<Looked> {
        let mut looked = Looked::default();
        let mut lost = false;
        {
            let _turn = self.turn(key).await;
            for attempt in 0..=ATTEMPTS {
                if attempt == ATTEMPTS {
                    return Err(self.restless());
                }
                let found = self.settled(key).await?;
                let copies = &found.entry.copies;
                let holds = |name: &String| listed.contains_key(name);
                // What was listed may have changed since; only what is repaired is looked at again.
                let unknown = found.version.is_none() && !holds(&found.entry.at)
                    || copies.absent && listed.values().any(Option::is_some);
                let newest = listed.iter().max_by_key(|(_, version)| **version);
                let entry = match (options.rule, unknown, newest) {
                    (RepairRule::Primary, true, Some(_)) if found.version.is_none() => {
                        return Ok(Looked { stray: true, ..looked });
                    }
                    (RepairRule::Newest, true, Some((name, _))) if found.version.is_none() => {
                        Entry {
                            at: name.clone(),
                            moving: None,
                            copies: Self::unknown(replication, name),
                        }
                    }
                    (_, _, None) if found.version.is_none() => return Ok(looked),
                    _ => self.as_listed(replication, &found.entry, listed, known),
                };
                if !replication.replicas.contains(&entry.at) {
                    self.begin_move(key, &found, replication.preferred()).await?;
                    looked.repaired = true;
                    continue;
                }
                let mut entry = entry;
                if options.deep {
                    looked.damaged += self.verify_copies(key, &mut entry).await;
                }
                lost = known.contains(&found.entry.at)
                    && found.entry.at == entry.at
                    && match listed.get(&entry.at) {
                        None => self.has_lost(&found, None),
                        // Not every engine lists versions.
                        Some(None) => false,
                        Some(held) => self.has_lost(&found, *held),
                    };
                if entry == found.entry {
                    break;
                }
                looked.repaired = true;
                if self.entries.replace(key, &entry, found.version).await?.is_some() {
                    break;
                }
            }
        }
        if lost || looked.damaged > 0 {
            self.mender.suspect(key, self.env.monotonic());
            looked.repaired = true;
        }
        if looked.repaired || self.is_behind(&self.find(key).await?.entry) {
            looked.repaired = true;
            looked.behind = !self.mend(key).await?;
        }
        Ok(looked)
    }

    /// An entry whose copies are those that the replicas list.
    fn as_listed(
        &self,
        replication: &Replication,
        entry: &Entry,
        listed: &Listed,
        known: &BTreeSet<String>,
    ) -> Entry {
        let mut copies = entry.copies.clone();
        let wanted = Self::unknown(replication, &entry.at).on;
        if copies.absent {
            // What lies there is left over.
            copies.left.extend(listed.keys().cloned());
            return Entry { copies, ..entry.clone() };
        }
        for (name, none) in wanted {
            copies.on.entry(name).or_insert(none);
        }
        let gone: Vec<String> =
            copies.on.keys().filter(|name| !replication.replicas.contains(name)).cloned().collect();
        for name in gone {
            copies.forget(&name);
            copies.left.insert(name);
        }
        for (name, version) in &mut copies.on {
            let is = listed.get(name);
            let differs = match is {
                // Not every engine lists versions.
                Some(is) => is.is_some() && is.map(Version::as_u64) != *version,
                None => known.contains(name),
            };
            if version.is_some() && differs {
                *version = None;
            }
        }
        Entry { copies, ..entry.clone() }
    }

    /// Reads every copy; those that are damaged are removed, and count no more.
    async fn verify_copies(&self, key: &str, entry: &mut Entry) -> u64 {
        let mut damaged = 0;
        let Copies { on, .. } = &mut entry.copies;
        for (name, version) in on.iter_mut().filter(|(_, version)| version.is_some()) {
            let Ok(backend) = self.backend(name) else { continue };
            if let Err(StorageError::Corrupt(_)) = backend.read(key, ReadOptions::default()).await {
                damaged += 1;
                *version = None;
                // It is put again when that can be done.
                let _ = backend.remove(key, Condition::Always).await;
            }
        }
        if let Ok(backend) = self.backend(&entry.at)
            && let Err(StorageError::Corrupt(_)) = backend.read(key, ReadOptions::default()).await
        {
            damaged += 1;
        }
        damaged
    }
}
