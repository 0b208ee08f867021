//! What the engine must hold.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use sira_store::Version;
use sira_store::embedded::Ticket;

use super::content::{Content, Found};

/// An object as it was written.
#[derive(Debug)]
pub(super) struct Entry {
    /// `None` when the write was cut off before it named its version.
    pub(super) version: Option<Version>,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) metadata: Bytes,
    pub(super) value: Bytes,
    /// It was expired once and the clock went back since: it may be collected or not.
    limbo: Cell<bool>,
}

impl Entry {
    pub(super) fn new(
        version: Option<Version>,
        expires_at_ms: Option<u64>,
        metadata: Bytes,
        value: Bytes,
    ) -> Self {
        Self { version, expires_at_ms, metadata, value, limbo: Cell::new(false) }
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

/// All namespaces by name.
pub(super) type Spaces = BTreeMap<String, Space>;

/// One change in the order of the log.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(String, Vec<u8>, Rc<Entry>),
    Delete(String, Vec<u8>),
    Create(String),
    Drop(String),
    Swap(String, String),
}

/// Changes that take effect together.
#[derive(Debug, Clone)]
struct Step {
    /// `None` for changes that name no ticket: durable as soon as any later step is.
    ticket: Option<Ticket>,
    /// The call failed and may have had its effect.
    maybe: bool,
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
    pub(super) last_version: Version,
}

fn apply(spaces: &mut Spaces, change: &Change) {
    match change {
        Change::Put(name, key, entry) => {
            spaces.entry(name.clone()).or_default().insert(key.clone(), Rc::clone(entry));
        }
        Change::Delete(name, key) => {
            if let Some(space) = spaces.get_mut(name) {
                space.remove(key);
            }
        }
        Change::Create(name) => {
            spaces.entry(name.clone()).or_default();
        }
        Change::Drop(name) => {
            spaces.remove(name);
        }
        Change::Swap(a, b) => {
            let (x, y) = (spaces.remove(a), spaces.remove(b));
            spaces.insert(a.clone(), y.unwrap_or_default());
            spaces.insert(b.clone(), x.unwrap_or_default());
        }
    }
}

impl Model {
    /// Adds changes that took effect.
    pub(super) fn commit(&mut self, ticket: Option<Ticket>, changes: Vec<Change>) {
        for change in &changes {
            apply(&mut self.current, change);
        }
        self.pending.push(Step { ticket, maybe: false, changes });
    }

    /// Adds changes that may have taken effect.
    pub(super) fn commit_maybe(&mut self, changes: Vec<Change>) {
        self.pending.push(Step { ticket: None, maybe: true, changes });
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
            assert!(!step.maybe, "the engine went on after a call whose effect is unknown");
            for change in &step.changes {
                apply(&mut self.durable, change);
            }
        }
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
            _ => None,
        });
        let held = self.current.values().chain(self.durable.values()).flat_map(BTreeMap::values);
        for entry in held.chain(pending) {
            if entry.is_expired(before_ms) {
                entry.limbo.set(true);
            }
        }
    }

    pub(super) fn sight(&self, name: &str, key: &[u8], now_ms: u64) -> Sight {
        sight_of(self.current.get(name).and_then(|space| space.get(key)), now_ms)
    }

    /// Takes what a reopened engine holds, if the model allows it.
    pub(super) fn reopened(
        &mut self,
        found: &Content,
        survival: Survival,
        now_ms: u64,
    ) -> Result<(), String> {
        let mut spaces = self.allowed(found, survival, now_ms)?;
        for (name, objects) in found {
            let space = spaces.entry(name.clone()).or_default();
            for (key, object) in objects {
                self.last_version = self.last_version.max(object.version);
                let unknown = space.get(key).is_none_or(|entry| entry.version.is_none());
                let limbo = space.get(key).is_some_and(|entry| entry.limbo.get());
                if unknown || limbo {
                    let entry = Entry::new(
                        Some(object.version),
                        object.expires_at_ms,
                        object.metadata.clone(),
                        object.value.clone(),
                    );
                    entry.limbo.set(limbo);
                    space.insert(key.clone(), Rc::new(entry));
                }
            }
        }
        self.current.clone_from(&spaces);
        self.durable = spaces;
        self.pending.clear();
        Ok(())
    }

    /// The newest state that the model allows and that looks like what was found.
    fn allowed(
        &self,
        found: &Content,
        survival: Survival,
        now_ms: u64,
    ) -> Result<Spaces, String> {
        let mut worlds = vec![Difference::new(self.durable.clone(), found, now_ms)];
        let mut best = None;
        let must = match survival {
            Survival::All => self.pending.iter().rposition(|step| !step.maybe).map_or(0, |i| i + 1),
            Survival::Prefix => 0,
        };
        let mut nearest = String::new();
        for (index, step) in std::iter::once(None).chain(self.pending.iter().map(Some)).enumerate()
        {
            if let Some(step) = step {
                let before = if step.maybe { worlds.clone() } else { Vec::new() };
                for world in &mut worlds {
                    step.changes.iter().for_each(|change| world.apply(change));
                }
                worlds.extend(before);
            }
            if index >= must {
                for world in &worlds {
                    if world.is_none() {
                        best = Some(world.spaces.clone());
                    }
                }
            }
            if index == must || index == self.pending.len() {
                for world in &worlds {
                    nearest += &format!("\n  after {index} unsynced steps: {}", world.describe());
                }
            }
        }
        best.ok_or_else(|| {
            format!(
                "no state that the model allows was found after the reopening; {} unsynced steps, {survival:?}:{nearest}",
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
            entry.version.is_none_or(|version| version == found.version)
                && entry.expires_at_ms == found.expires_at_ms
                && entry.metadata == found.metadata
                && entry.value == found.value
        }
        _ => false,
    }
}

/// A state beside what was found, with the number of keys in which they differ.
#[derive(Clone)]
struct Difference<'a> {
    spaces: Spaces,
    found: &'a Content,
    now_ms: u64,
    differing: BTreeMap<String, usize>,
}

impl<'a> Difference<'a> {
    fn new(spaces: Spaces, found: &'a Content, now_ms: u64) -> Self {
        let mut difference = Self { spaces, found, now_ms, differing: BTreeMap::new() };
        let names: Vec<String> =
            difference.spaces.keys().chain(found.keys()).cloned().collect();
        names.iter().for_each(|name| difference.recount(name));
        difference
    }

    fn differs(&self, name: &str, key: &[u8]) -> bool {
        let sight = sight_of(self.spaces.get(name).and_then(|space| space.get(key)), self.now_ms);
        let found = self.found.get(name).and_then(|objects| objects.get(key));
        !agrees(&sight, found, self.now_ms)
    }

    fn keys_that_differ(&self, name: &str) -> Vec<Vec<u8>> {
        let held = self.spaces.get(name).into_iter().flat_map(BTreeMap::keys);
        let found = self.found.get(name).into_iter().flat_map(BTreeMap::keys);
        let mut keys: Vec<Vec<u8>> = held.chain(found).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| self.differs(name, key));
        keys
    }

    fn recount(&mut self, name: &str) {
        let missing = self.spaces.contains_key(name) != self.found.contains_key(name);
        let count = self.keys_that_differ(name).len() + usize::from(missing);
        self.differing.insert(name.to_owned(), count);
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(name, key, _) | Change::Delete(name, key)
                if self.spaces.contains_key(name) =>
            {
                let before = usize::from(self.differs(name, key));
                apply(&mut self.spaces, change);
                let after = usize::from(self.differs(name, key));
                let count = self.differing.entry(name.clone()).or_default();
                *count = *count + after - before;
            }
            Change::Put(name, _, _)
            | Change::Delete(name, _)
            | Change::Create(name)
            | Change::Drop(name) => {
                apply(&mut self.spaces, change);
                self.recount(name);
            }
            Change::Swap(a, b) => {
                apply(&mut self.spaces, change);
                self.recount(a);
                self.recount(b);
            }
        }
    }

    fn is_none(&self) -> bool {
        self.differing.values().all(|count| *count == 0)
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        for (name, count) in self.differing.iter().filter(|(_, count)| **count > 0) {
            text += &format!("{count} differences in {name:?}");
            for key in self.keys_that_differ(name).iter().take(4) {
                let found = self.found.get(name).and_then(|objects| objects.get(key));
                let held = self.spaces.get(name).and_then(|space| space.get(key));
                text += &format!(
                    ", key {} holds {} instead of {}",
                    key.escape_ascii(),
                    found.map_or("nothing".to_owned(), |found| format!(
                        "{} ({} bytes, expires {:?})",
                        found.version,
                        found.value.len(),
                        found.expires_at_ms
                    )),
                    held.map_or("nothing".to_owned(), |held| format!(
                        "{:?} ({} bytes, expires {:?})",
                        held.version.map(|version| version.to_string()),
                        held.value.len(),
                        held.expires_at_ms
                    )),
                );
            }
            text += "; ";
        }
        if text.is_empty() { "no difference".to_owned() } else { text }
    }
}
