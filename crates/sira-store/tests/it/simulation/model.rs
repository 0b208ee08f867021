//! What the engine must hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use sira_store::Version;
use sira_store::embedded::{Commit, NamespaceId, Ticket};

use super::content::{Content, Found};

/// An object as it was written.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` until the write names it.
    pub(super) version: Cell<Option<Version>>,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Bytes,
    pub(super) value: Bytes,
    /// It was expired once and the clock went back since: it may be collected or not.
    limbo: Cell<bool>,
}

impl Entry {
    pub(super) fn new(expires_at_ms: Option<u64>, metadata: Bytes, value: Bytes) -> Self {
        Self { version: Cell::new(None), expires_at_ms, metadata, value, limbo: Cell::new(false) }
    }

    pub(super) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

/// What a reader may see of a key.
#[derive(Debug, Clone)]
pub(super) enum Sight {
    Nothing,
    Exactly(Rc<Entry>),
    /// Nothing, or something that expires later.
    Unsure,
}

/// Objects of one namespace.
pub(super) type Space = BTreeMap<Vec<u8>, Rc<Entry>>;

/// Objects of all namespaces, those that were dropped included.
pub(super) type Spaces = BTreeMap<NamespaceId, Space>;

/// Names of the namespaces; `None` is a number that nobody has seen yet.
pub(super) type Table = BTreeMap<String, Option<NamespaceId>>;

/// One change in the order of the log.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(NamespaceId, Vec<u8>, Rc<Entry>),
    Delete(NamespaceId, Vec<u8>),
}

impl Change {
    pub(super) fn key(&self) -> (NamespaceId, &[u8]) {
        match self {
            Self::Put(namespace, key, _) | Self::Delete(namespace, key) => (*namespace, key),
        }
    }
}

/// Changes that take effect together.
#[derive(Debug, Clone)]
struct Step {
    /// `None` when the call failed and may have had its effect.
    ticket: Option<Ticket>,
    version: Version,
    changes: Vec<Change>,
}

/// How much of what was not durable must be found after a reopening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Survival {
    /// Every step whose call succeeded.
    All,
    /// Any prefix of the steps.
    Prefix,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// With everything that took effect.
    pub(super) current: Spaces,
    /// With what is durable only.
    durable: Spaces,
    /// The steps between the two.
    pending: Vec<Step>,
    /// Namespaces by name; changes of it are durable when their call returns.
    pub(super) table: Table,
    /// What the table may be instead, after a change of it failed.
    pub(super) maybe_tables: Vec<Table>,
    /// Every later version is greater. Versions of writes that were lost may be given again.
    pub(super) last_version: Version,
    durable_version: Version,
    last_namespace: Option<NamespaceId>,
}

fn apply(spaces: &mut Spaces, change: &Change) {
    match change {
        Change::Put(namespace, key, entry) => {
            spaces.entry(*namespace).or_default().insert(key.clone(), Rc::clone(entry));
        }
        Change::Delete(namespace, key) => {
            if let Some(space) = spaces.get_mut(namespace) {
                space.remove(key);
            }
        }
    }
}

impl Model {
    /// Adds changes that took effect.
    pub(super) fn commit(&mut self, commit: Commit, changes: Vec<Change>) {
        for change in &changes {
            if let Change::Put(_, _, entry) = change {
                entry.version.set(Some(commit.version));
            }
            apply(&mut self.current, change);
        }
        let Commit { ticket, version } = commit;
        self.last_version = version;
        self.pending.push(Step { ticket: Some(ticket), version, changes });
    }

    /// Adds changes that may have taken effect.
    pub(super) fn commit_maybe(&mut self, changes: Vec<Change>) {
        self.pending.push(Step { ticket: None, version: Version::default(), changes });
    }

    /// Everything up to the ticket is durable.
    pub(super) fn settle(&mut self, durable: Ticket) {
        let count = self
            .pending
            .iter()
            .rposition(|step| step.ticket.is_some_and(|ticket| ticket <= durable))
            .map_or(0, |last| last + 1);
        self.settle_steps(count);
    }

    /// Everything is durable.
    pub(super) fn settle_all(&mut self) {
        self.settle_steps(self.pending.len());
    }

    fn settle_steps(&mut self, count: usize) {
        for step in self.pending.drain(..count) {
            assert!(step.ticket.is_some(), "the engine went on after an unclear failure");
            self.durable_version = self.durable_version.max(step.version);
            for change in &step.changes {
                apply(&mut self.durable, change);
            }
        }
    }

    /// A namespace was made with this number.
    pub(super) fn made(&mut self, name: &str, id: NamespaceId) -> Result<(), String> {
        if self.last_namespace.is_some_and(|last| id <= last) {
            return Err(format!("namespace {name:?} got the used number {id:?}"));
        }
        self.last_namespace = Some(id);
        self.table.insert(name.to_owned(), Some(id));
        Ok(())
    }

    /// Forgets objects of namespaces that are gone.
    pub(super) fn forget_dropped(&mut self) {
        let live: Vec<NamespaceId> = self.table.values().flatten().copied().collect();
        self.current.retain(|id, _| live.contains(id));
        self.durable.retain(|id, _| live.contains(id));
    }

    /// Steps that are not durable.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Objects that took effect.
    pub(super) fn count(&self) -> usize {
        self.current.values().map(BTreeMap::len).sum()
    }

    /// A ticket that is not durable yet.
    pub(super) fn pending_ticket(&self, choice: u64) -> Option<Ticket> {
        let tickets: Vec<Ticket> = self.pending.iter().filter_map(|step| step.ticket).collect();
        tickets.get(choice as usize % tickets.len().max(1)).copied()
    }

    /// The clock went back from `before_ms`: what was expired may be collected.
    pub(super) fn clock_went_back(&self, before_ms: u64) {
        let written = self.pending.iter().flat_map(|step| &step.changes);
        let pending = written.filter_map(|change| match change {
            Change::Put(_, _, entry) => Some(entry),
            Change::Delete(..) => None,
        });
        let held = self.current.values().chain(self.durable.values()).flat_map(BTreeMap::values);
        for entry in held.chain(pending) {
            if entry.is_expired(before_ms) {
                entry.limbo.set(true);
            }
        }
    }

    pub(super) fn sight(&self, namespace: NamespaceId, key: &[u8], now_ms: u64) -> Sight {
        sight_of(self.current.get(&namespace).and_then(|space| space.get(key)), now_ms)
    }

    /// Takes what a reopened engine holds, if the model allows it.
    pub(super) fn reopened(
        &mut self,
        found: &Content,
        survival: Survival,
        now_ms: u64,
    ) -> Result<(), String> {
        self.take_table(found)?;
        let objects: Objects = found.values().map(|(id, objects)| (*id, objects)).collect();
        let mut spaces = self.allowed(&objects, survival, now_ms)?;
        for (id, key, ghost) in self.ghosts(now_ms) {
            spaces.entry(id).or_default().entry(key).or_insert(ghost);
        }
        self.last_version = self.durable_version;
        for (id, objects) in objects {
            let space = spaces.entry(id).or_default();
            for (key, object) in objects {
                self.last_version = self.last_version.max(object.version);
                let unknown = space.get(key).is_none_or(|entry| entry.version.get().is_none());
                let limbo = space.get(key).is_some_and(|entry| entry.limbo.get());
                if unknown || limbo {
                    let entry = Entry::new(
                        object.expires_at_ms,
                        object.metadata.clone(),
                        object.value.clone(),
                    );
                    entry.version.set(Some(object.version));
                    entry.limbo.set(limbo);
                    space.insert(key.clone(), Rc::new(entry));
                }
            }
        }
        self.durable_version = self.last_version;
        self.current.clone_from(&spaces);
        self.durable = spaces;
        self.pending.clear();
        self.forget_dropped();
        Ok(())
    }

    /// Expired objects of writes that were not durable. Whether their removal survived shows only
    /// when the clock goes back.
    fn ghosts(&self, now_ms: u64) -> Vec<(NamespaceId, Vec<u8>, Rc<Entry>)> {
        let mut ghosts = Vec::new();
        for change in self.pending.iter().flat_map(|step| &step.changes) {
            let (id, key) = change.key();
            let entry = match change {
                Change::Put(_, _, entry) => Some(entry),
                Change::Delete(..) => self.durable.get(&id).and_then(|space| space.get(key)),
            };
            if let Some(entry) = entry.filter(|entry| entry.is_expired(now_ms)) {
                entry.limbo.set(true);
                ghosts.push((id, key.to_vec(), Rc::clone(entry)));
            }
        }
        ghosts
    }

    /// Takes the table that was found, if it is the model's or one of those that may be.
    fn take_table(&mut self, found: &Content) -> Result<(), String> {
        let agrees = |table: &Table| {
            table.len() == found.len()
                && found.iter().all(|(name, (id, _))| match table.get(name) {
                    Some(Some(known)) => known == id,
                    Some(None) => self.last_namespace.is_none_or(|last| *id > last),
                    None => false,
                })
        };
        if !std::iter::once(&self.table).chain(&self.maybe_tables).any(agrees) {
            let names: Vec<_> = found.iter().map(|(name, (id, _))| (name, id)).collect();
            return Err(format!(
                "namespaces are {names:?} instead of {:?} or {:?}",
                self.table, self.maybe_tables
            ));
        }
        self.maybe_tables.clear();
        self.table = found.iter().map(|(name, (id, _))| (name.clone(), Some(*id))).collect();
        let newest = found.values().map(|(id, _)| *id).max();
        self.last_namespace = self.last_namespace.max(newest);
        Ok(())
    }

    /// Says how an engine that was not reopened differs from what took effect.
    pub(super) fn compare(&self, found: &Content, now_ms: u64) -> Result<(), String> {
        let table: Table = found.iter().map(|(name, (id, _))| (name.clone(), Some(*id))).collect();
        if table != self.table {
            return Err(format!("namespaces are {table:?} instead of {:?}", self.table));
        }
        let objects: Objects = found.values().map(|(id, objects)| (*id, objects)).collect();
        let difference = Difference::new(self.current.clone(), &objects, now_ms);
        if difference.is_none() { Ok(()) } else { Err(difference.describe()) }
    }

    /// The newest state that the model allows and that looks like what was found.
    fn allowed(
        &self,
        found: &Objects<'_>,
        survival: Survival,
        now_ms: u64,
    ) -> Result<Spaces, String> {
        let certain = |step: &Step| step.ticket.is_some();
        let must = match survival {
            Survival::All => self.pending.iter().rposition(certain).map_or(0, |last| last + 1),
            Survival::Prefix => 0,
        };
        let mut worlds = vec![Difference::new(self.durable.clone(), found, now_ms)];
        let mut best = None;
        let mut tried = String::new();
        for count in 0..=self.pending.len() {
            if let Some(step) = count.checked_sub(1).map(|last| &self.pending[last]) {
                let without = if certain(step) { Vec::new() } else { worlds.clone() };
                for world in &mut worlds {
                    step.changes.iter().for_each(|change| world.apply(change));
                }
                worlds.extend(without);
            }
            if count >= must
                && let Some(world) = worlds.iter().find(|world| world.is_none())
            {
                best = Some(world.spaces.clone());
            }
            if count == must || count == self.pending.len() {
                for world in &worlds {
                    tried += &format!("\n  after {count} unsynced writes: {}", world.describe());
                }
            }
        }
        best.ok_or_else(|| {
            format!(
                "what was found is no state that may be, {survival:?} of {} unsynced writes:{tried}",
                self.pending.len()
            )
        })
    }
}

fn sight_of(entry: Option<&Rc<Entry>>, now_ms: u64) -> Sight {
    match entry {
        None => Sight::Nothing,
        Some(entry) if entry.is_expired(now_ms) => Sight::Nothing,
        Some(entry) if entry.limbo.get() => Sight::Unsure,
        Some(entry) => Sight::Exactly(Rc::clone(entry)),
    }
}

/// Whether what was found is what may be seen.
pub(super) fn agrees(sight: &Sight, found: Option<&Found>, now_ms: u64) -> bool {
    match (sight, found) {
        (Sight::Nothing | Sight::Unsure, None) => true,
        (Sight::Unsure, Some(found)) => found.expires_at_ms.is_some_and(|at| at > now_ms),
        (Sight::Exactly(entry), Some(found)) => {
            entry.version.get().is_none_or(|version| version == found.version)
                && entry.expires_at_ms == found.expires_at_ms
                && entry.metadata == found.metadata
                && entry.value == found.value
        }
        _ => false,
    }
}

/// What was found, by namespace.
type Objects<'a> = BTreeMap<NamespaceId, &'a BTreeMap<Vec<u8>, Found>>;

/// A state beside what was found, with the number of keys in which they differ.
#[derive(Clone)]
struct Difference<'a> {
    spaces: Spaces,
    found: &'a Objects<'a>,
    now_ms: u64,
    differing: usize,
}

impl<'a> Difference<'a> {
    fn new(spaces: Spaces, found: &'a Objects<'a>, now_ms: u64) -> Self {
        let mut difference = Self { spaces, found, now_ms, differing: 0 };
        difference.differing =
            found.keys().map(|namespace| difference.keys_that_differ(*namespace).len()).sum();
        difference
    }

    /// Objects of namespaces that are gone differ in nothing.
    fn differs(&self, namespace: NamespaceId, key: &[u8]) -> bool {
        let Some(objects) = self.found.get(&namespace) else { return false };
        let held = self.spaces.get(&namespace).and_then(|space| space.get(key));
        !agrees(&sight_of(held, self.now_ms), objects.get(key), self.now_ms)
    }

    fn keys_that_differ(&self, namespace: NamespaceId) -> Vec<Vec<u8>> {
        let held = self.spaces.get(&namespace).into_iter().flat_map(BTreeMap::keys);
        let found = self.found.get(&namespace).into_iter().flat_map(|objects| objects.keys());
        let mut keys: Vec<&Vec<u8>> = held.chain(found).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().filter(|key| self.differs(namespace, key)).cloned().collect()
    }

    fn apply(&mut self, change: &Change) {
        let (namespace, key) = change.key();
        let before = usize::from(self.differs(namespace, key));
        apply(&mut self.spaces, change);
        self.differing = self.differing + usize::from(self.differs(namespace, key)) - before;
    }

    fn is_none(&self) -> bool {
        self.differing == 0
    }

    fn describe(&self) -> String {
        let mut text = format!("{} differences", self.differing);
        for namespace in self.found.keys() {
            for key in self.keys_that_differ(*namespace).iter().take(4) {
                let found = self.found.get(namespace).and_then(|objects| objects.get(key));
                let held = self.spaces.get(namespace).and_then(|space| space.get(key));
                text += &format!(
                    ", {namespace:?} key \"{}\" holds {} instead of {}",
                    key[..key.len().min(40)].escape_ascii(),
                    found.map_or("nothing".to_owned(), |found| format!(
                        "{} ({} bytes, expires {:?})",
                        found.version,
                        found.value.len(),
                        found.expires_at_ms
                    )),
                    held.map_or("nothing".to_owned(), |held| format!(
                        "{} ({} bytes, expires {:?})",
                        held.version.get().map_or("?".to_owned(), |version| version.to_string()),
                        held.value.len(),
                        held.expires_at_ms
                    )),
                );
            }
        }
        text
    }
}
