//! The operations of a world, each checked against the model.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use sira_store::embedded::{Commit, Engine, NamespaceId, WriteOptions};
use sira_store::{Condition, StorageError};

use super::content::Found;
use super::forgery;
use super::model::{Change, Entry, Sight, Table, agrees};
use super::world::{Checked, End, Flow, World};

const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// A namespace by name and number.
type Place = (&'static str, NamespaceId);

impl World {
    /// Does one operation.
    pub(super) fn operation(&mut self, engine: &Arc<Engine>) -> Checked<Flow> {
        self.tick();
        if self.rng.chance(self.style.maintained, 1000) {
            return self.maintain(engine);
        }
        let name = self.rng.pick(&NAMES);
        let choice = self.rng.below(1000);
        let known = self.model.table.get(name).copied().flatten();
        if engine.find_namespace(name) != known {
            return Err(format!("{name:?} is {:?}, not {known:?}", engine.find_namespace(name)));
        }
        let Some(namespace) = known else { return self.make_namespace(engine, name) };
        let place = (name, namespace);
        match choice {
            0..330 => self.put(engine, place),
            330..430 => self.conditional(engine, place),
            430..500 => self.delete(engine, place),
            500..540 => self.batch(engine),
            540..800 => self.get(engine, place),
            800..850 => self.scan(engine, place),
            850..870 => self.figures(engine, place),
            870..950 => self.wait(engine),
            950..955 => self.jump(),
            955..957 => self.drop_namespace(engine, place),
            957..959 => self.swap_namespaces(engine, place),
            959..961 => self.checkpoint(engine),
            961..963 if self.plan.capacity_bytes.is_some() => self.make_room(),
            _ => self.range(engine, place),
        }
    }

    fn tick(&mut self) {
        if self.rng.chance(1, 4) {
            let by = self.rng.below(40);
            self.env.advance_ms(by);
        }
    }

    fn jump(&mut self) -> Checked<Flow> {
        let now = self.now_ms();
        if self.rng.chance(2, 3) {
            let by = self.rng.pick(&[5_000, 3_600_000, 20 * 86_400_000]);
            let by = self.rng.below(by);
            self.note(|| format!("the clock goes forward by {by} ms"));
            self.env.advance_ms(by);
        } else {
            let by = self.rng.below(3_600_000);
            self.note(|| format!("the clock goes back by {by} ms"));
            self.env.set_ms(now - by);
            self.model.clock_went_back(now);
        }
        Ok(Flow::Go)
    }

    fn make_room(&mut self) -> Checked<Flow> {
        self.note(|| "space returns".to_owned());
        self.plan.capacity_bytes = None;
        let left = sira_log::disk::SimFaults { capacity_bytes: None, ..self.disk.faults() };
        self.disk.set_faults(left);
        Ok(Flow::Go)
    }

    // What is written.

    fn key(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let n = rng.below(self.style.keys);
        match n % 40 {
            0 => vec![],
            1 => vec![n as u8, 0, 255, 0],
            2 => vec![b'k'; 1024 - (n % 3) as usize],
            3 => format!("user/{}", n % 7).into_bytes(),
            _ => format!("user/{}/item/{n}", n % 7).into_bytes(),
        }
    }

    fn value(&mut self, key_len: usize, meta_len: usize) -> Bytes {
        let rng = &mut self.rng;
        let len = match rng.below(1000) {
            0..30 => 0,
            30..800 => rng.below(200),
            800..960 => rng.below(4_000),
            960..985 => rng.below(30_000),
            985..995 => {
                let salt = self.known_salt();
                let forged = forgery::payload(&self.disk, &mut self.rng, key_len + meta_len, salt);
                let Some(forged) = forged else { return Bytes::new() };
                self.forged.push_back((forged.path, forged.frame));
                if self.forged.len() > 20 {
                    self.forged.pop_front();
                }
                return forged.payload.into();
            }
            995..998 => rng.pick(&[65_535, 65_536, 65_537, 131_072]),
            _ => rng.within(65_536, 200_000),
        };
        if rng.chance(1, 20) { vec![0; len as usize].into() } else { rng.bytes(len as usize) }
    }

    fn entry(&mut self, key_len: usize) -> Rc<Entry> {
        let now = self.now_ms();
        let meta_len = if self.rng.chance(1, 4) { self.rng.below(100) as usize } else { 0 };
        let expires_at_ms = match self.rng.below(20) {
            0..3 => Some(now + self.rng.below(3_000)),
            3 => Some(now + self.rng.below(7_200_000)),
            4 if self.rng.chance(1, 10) => Some(now.saturating_sub(1)),
            4 if self.rng.chance(1, 10) => Some(u64::MAX >> self.rng.below(20)),
            _ => None,
        };
        let metadata = self.rng.bytes(meta_len);
        let value = self.value(key_len, meta_len);
        Rc::new(Entry::new(expires_at_ms, metadata, value))
    }

    /// A write that must fail, with no effect.
    pub(super) fn put_something(&mut self, engine: &Engine) -> Result<Commit, StorageError> {
        let namespace = self.model.table.values().flatten().next().copied();
        let Some(namespace) = namespace else {
            return Err(StorageError::unavailable("there is no namespace"));
        };
        engine.put(namespace, b"refused", b"", WriteOptions::default())
    }

    // Writes.

    fn put(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let key = self.key();
        let entry = self.entry(key.len());
        self.note(|| format!("put {name} {}, {}", show(&key), show_entry(&entry)));
        let result = engine.put(namespace, &key, &entry.value, options(&entry));
        self.written(engine, result, vec![Change::Put(namespace, key, entry)])
    }

    fn delete(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let key = self.key();
        let sight = self.model.sight(namespace, &key, self.now_ms());
        let mut step = engine.begin(&[(namespace, &key)]);
        let there = match step.delete(namespace, &key) {
            Ok(there) => there,
            Err(error) => return self.failed(engine, &error, None),
        };
        self.note(|| format!("delete {name} {}, there: {there}", show(&key)));
        match sight {
            Sight::Nothing if there => return Err("nothing was there to delete".to_owned()),
            Sight::Exactly(_) if !there => return Err("the delete found nothing".to_owned()),
            _ => {}
        }
        if !there {
            return Ok(Flow::Go);
        }
        let result = step.commit();
        self.written(engine, result, vec![Change::Delete(namespace, key)])
    }

    /// Reads a version and writes under a condition on it, as one step.
    fn conditional(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let key = self.key();
        let sight = self.model.sight(namespace, &key, self.now_ms());
        let mut step = engine.begin(&[(namespace, &key)]);
        let head = match step.head(namespace, &key) {
            Ok(head) => head,
            Err(error) => return self.failed(engine, &error, None),
        };
        let version = head.map(|head| head.version);
        match &sight {
            Sight::Nothing if version.is_some() => return Err("a head of nothing".to_owned()),
            Sight::Exactly(entry) if version != entry.version.get() => {
                return Err(format!("{name} {}: the head's version is {version:?}", show(&key)));
            }
            _ => {}
        }
        let old = sira_store::Version::from_u64(1);
        let condition = self.rng.pick(&[
            Condition::Always,
            Condition::IfAbsent,
            Condition::IfPresent,
            Condition::IfMatch(version.unwrap_or(old)),
            Condition::IfMatch(old),
            Condition::IfNoneMatch(version.unwrap_or(old)),
        ]);
        if !condition.holds(version) || self.rng.chance(1, 10) {
            drop(step);
            return Ok(Flow::Go);
        }
        let entry = self.entry(key.len());
        self.note(|| format!("{condition:?} put {name} {}, {}", show(&key), show_entry(&entry)));
        let staged = step.put(namespace, &key, entry.value.clone(), options(&entry));
        let result = staged.and_then(|()| step.commit());
        self.written(engine, result, vec![Change::Put(namespace, key, entry)])
    }

    /// Several writes in several namespaces as one step.
    fn batch(&mut self, engine: &Engine) -> Checked<Flow> {
        let places: Vec<NamespaceId> = self.model.table.values().flatten().copied().collect();
        let count = self.rng.within(2, 12);
        let mut plan = Vec::new();
        for _ in 0..count {
            plan.push((self.rng.pick(&places), self.key()));
        }
        let keys: Vec<(NamespaceId, &[u8])> =
            plan.iter().map(|(namespace, key)| (*namespace, key.as_slice())).collect();
        let mut step = engine.begin(&keys);
        let mut changes: Vec<Change> = Vec::new();
        for (namespace, key) in &plan {
            let own = changes.iter().rev().find(|change| change.key() == (*namespace, key));
            if self.rng.chance(1, 3) {
                let there = match step.delete(*namespace, key) {
                    Ok(there) => there,
                    Err(error) => return self.failed(engine, &error, None),
                };
                let expected = match own {
                    Some(Change::Put(..)) => Some(true),
                    Some(Change::Delete(..)) => Some(false),
                    None => match self.model.sight(*namespace, key, self.now_ms()) {
                        Sight::Nothing => Some(false),
                        Sight::Exactly(_) => Some(true),
                        Sight::Unsure => None,
                    },
                };
                if expected.is_some_and(|expected| expected != there) {
                    return Err(format!("a delete in a step says {there} of {}", show(key)));
                }
                if there {
                    changes.push(Change::Delete(*namespace, key.clone()));
                }
            } else {
                let entry = self.entry(key.len());
                if let Err(error) = step.put(*namespace, key, entry.value.clone(), options(&entry))
                {
                    return self.failed(engine, &error, None);
                }
                changes.push(Change::Put(*namespace, key.clone(), entry));
            }
        }
        let size = changes.len();
        self.note(|| {
            let keys: Vec<String> = changes
                .iter()
                .map(|change| match change {
                    Change::Put(namespace, key, entry) => {
                        format!("put {namespace:?} {} {}", show(key), show_entry(entry))
                    }
                    Change::Delete(namespace, key) => format!("delete {namespace:?} {}", show(key)),
                })
                .collect();
            format!("one step of {size}: {}", keys.join("; "))
        });
        if self.rng.chance(1, 10) {
            drop(step);
            self.note(|| "the step is dropped".to_owned());
            return Ok(Flow::Go);
        }
        if changes.is_empty() {
            return Ok(Flow::Go);
        }
        let result = step.commit();
        self.written(engine, result, changes)
    }

    /// Takes the outcome of a write, and waits for it to become durable where it is to be synced.
    fn written(
        &mut self,
        engine: &Engine,
        result: Result<Commit, StorageError>,
        changes: Vec<Change>,
    ) -> Checked<Flow> {
        let commit = match result {
            Ok(commit) => commit,
            Err(error) => return self.failed(engine, &error, Some(changes)),
        };
        if commit.version <= self.model.last_version {
            return Err(format!("version {} after {}", commit.version, self.model.last_version));
        }
        self.model.commit(commit, changes.clone());
        for change in &changes {
            if let Change::Put(namespace, key, entry) = change {
                self.past.wrote(*namespace, key, entry);
            }
        }
        if !self.rng.chance(self.style.synced, 100) {
            return Ok(Flow::Go);
        }
        match engine.wait_durable(commit.ticket) {
            Ok(()) if engine.durable() < commit.ticket => {
                Err("a wait for durability returned early".to_owned())
            }
            Ok(()) => {
                self.note(|| format!("version {} is durable", commit.version));
                Ok(Flow::Go)
            }
            Err(error) => self.sync_failed(engine, &error),
        }
    }

    // Failures.

    /// Judges an error. `maybe` is what the failed call may have written.
    fn failed(
        &mut self,
        engine: &Engine,
        error: &StorageError,
        maybe: Option<Vec<Change>>,
    ) -> Checked<Flow> {
        self.note(|| format!("failed: {error}"));
        if self.disk.is_off() {
            if let Some(changes) = maybe {
                self.model.commit_maybe(changes);
            }
            return Ok(Flow::End(End::PowerLoss));
        }
        match error {
            StorageError::OutOfSpace(_) if self.plan.capacity_bytes.is_some() => {
                self.tally.refused_full += 1;
                if engine.check_writable().is_err() && !self.io_error_struck() {
                    return Err("a full disk stopped the engine".to_owned());
                }
                Ok(Flow::Go)
            }
            StorageError::ReadOnly(_) | StorageError::Io(_) if self.io_error_struck() => {
                self.tally.io_errors += 1;
                if let (StorageError::Io(_), Some(changes)) = (error, maybe) {
                    self.model.commit_maybe(changes);
                    return Ok(Flow::End(self.crash_end()));
                }
                for _ in 0..5 {
                    self.get_any(engine)?;
                }
                Ok(Flow::End(self.crash_end()))
            }
            _ => Err(format!("an error without a cause: {error} ({error:?})")),
        }
    }

    /// A sync failed: reads go on, writes are refused.
    fn sync_failed(&mut self, engine: &Engine, error: &StorageError) -> Checked<Flow> {
        if !self.disk.is_off() {
            if engine.check_writable().is_ok() {
                return Err(format!("the engine takes writes after {error}"));
            }
            let refused = self.put_something(engine);
            if !matches!(refused, Err(StorageError::ReadOnly(_))) {
                return Err(format!("after a failed sync a write is answered with {refused:?}"));
            }
        }
        self.failed(engine, error, None)
    }

    fn wait(&mut self, engine: &Engine) -> Checked<Flow> {
        let choice = self.rng.next_u64();
        let result = match self.model.pending_ticket(choice) {
            Some(ticket) if !choice.is_multiple_of(3) => engine.wait_durable(ticket),
            _ => engine.flush(),
        };
        self.note(|| format!("wait: {result:?}"));
        match result {
            Ok(()) => Ok(Flow::Go),
            Err(error) => self.sync_failed(engine, &error),
        }
    }

    fn maintain(&mut self, engine: &Engine) -> Checked<Flow> {
        let result = engine.maintain();
        self.note(|| format!("maintain: {result:?}"));
        match result {
            Ok(report) => {
                self.tally.checkpoints += u64::from(report.checkpointed);
                self.tally.reclaimed += report.reclaimed;
                self.tally.removed += report.removed;
                self.tally.expired += report.expired;
                self.tally.purged += report.purged;
                Ok(Flow::Go)
            }
            Err(error) => self.failed(engine, &error, None),
        }
    }

    fn checkpoint(&mut self, engine: &Engine) -> Checked<Flow> {
        let result = engine.checkpoint();
        self.note(|| format!("checkpoint: {result:?}"));
        match result {
            Ok(()) => Ok(Flow::Go),
            Err(error) => self.failed(engine, &error, None),
        }
    }

    // Namespaces.

    fn make_namespace(&mut self, engine: &Engine, name: &str) -> Checked<Flow> {
        let mut after = self.model.table.clone();
        after.insert(name.to_owned(), None);
        let result = engine.namespace(name);
        self.note(|| format!("make {name}: {result:?}"));
        match result {
            Ok(id) => {
                self.model.made(name, id)?;
                Ok(Flow::Go)
            }
            Err(error) => self.table_failed(engine, &error, vec![after]),
        }
    }

    fn drop_namespace(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let mut after = self.model.table.clone();
        after.remove(name);
        let result = engine.drop_namespace(name);
        self.note(|| format!("drop {name}: {result:?}"));
        match result {
            Ok(true) => {
                self.model.table = after;
                self.model.forget_dropped();
                let refused = engine.put(namespace, b"late", b"", WriteOptions::default());
                match refused {
                    Err(StorageError::NotFound(_) | StorageError::ReadOnly(_)) => {}
                    other => return Err(format!("a put into a dropped namespace: {other:?}")),
                }
                match engine.get(namespace, b"late") {
                    Ok(None) => Ok(Flow::Go),
                    other => Err(format!("a get from a dropped namespace: {other:?}")),
                }
            }
            Ok(false) => Err(format!("{name:?} was not there to drop")),
            Err(error) => self.table_failed(engine, &error, vec![after]),
        }
    }

    fn swap_namespaces(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let other = self.rng.pick(&NAMES);
        let other_id = self.model.table.get(other).copied().flatten();
        let mut made = self.model.table.clone();
        made.entry(other.to_owned()).or_insert(None);
        let mut after = made.clone();
        if other != name {
            after.insert(name.to_owned(), other_id);
            after.insert(other.to_owned(), Some(namespace));
        }
        let result = engine.swap_namespaces(name, other);
        self.note(|| format!("swap {name} and {other}: {result:?}"));
        match result {
            Ok(()) => {
                if other_id.is_none() {
                    let id = engine.find_namespace(name).ok_or("a swapped namespace is gone")?;
                    self.model.made(name, id)?;
                }
                let known = self.model.table.get(name).copied().flatten();
                self.model.table = after;
                self.model.table.insert(name.to_owned(), other_id.or(known));
                if other == name {
                    self.model.table.insert(name.to_owned(), Some(namespace));
                }
                Ok(Flow::Go)
            }
            Err(error) => self.table_failed(engine, &error, vec![made, after]),
        }
    }

    fn table_failed(
        &mut self,
        engine: &Engine,
        error: &StorageError,
        maybe: Vec<Table>,
    ) -> Checked<Flow> {
        let flow = self.failed(engine, error, None)?;
        self.model.maybe_tables = maybe;
        match (flow, error) {
            // A part of the change can have been made before the disk was full.
            (Flow::Go, _) => Ok(Flow::End(self.crash_end())),
            (end, _) => Ok(end),
        }
    }

    // Reads.

    fn get(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let key = self.key();
        let found = if self.rng.chance(1, 2) {
            engine.get(namespace, &key).map(|found| found.map(Found::from))
        } else {
            engine.read(namespace, &key, |object| Found {
                version: object.version,
                expires_at_ms: object.expires_at_ms,
                metadata: Bytes::copy_from_slice(object.metadata),
                value: Bytes::copy_from_slice(object.value),
            })
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.failed(engine, &error, None),
        };
        let sight = self.model.sight(namespace, &key, self.now_ms());
        if agrees(&sight, found.as_ref(), self.now_ms()) {
            return Ok(Flow::Go);
        }
        Err(format!(
            "get {name} {}: {:?} instead of {sight:?}",
            show(&key),
            found.map(|f| f.version)
        ))
    }

    fn get_any(&mut self, engine: &Engine) -> Checked<()> {
        for (name, id) in self.model.table.clone() {
            let name = NAMES.iter().find(|known| **known == name).copied();
            if let (Some(name), Some(id)) = (name, id) {
                self.get(engine, (name, id))?;
            }
        }
        Ok(())
    }

    fn range(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let key = self.key();
        let Sight::Exactly(entry) = self.model.sight(namespace, &key, self.now_ms()) else {
            return Ok(Flow::Go);
        };
        let size = entry.value.len() as u64;
        let from = self.rng.below(size + 2);
        let to = from + self.rng.below(100_000);
        let found = match engine.get_range(namespace, &key, from..to) {
            Ok(found) => found.ok_or_else(|| format!("{name} {} is gone", show(&key)))?,
            Err(error) => return self.failed(engine, &error, None),
        };
        let end = to.min(size) as usize;
        let expected = entry.value.slice((from as usize).min(end)..end);
        if found.value != expected || found.size != size {
            return Err(format!("{name} {}: bytes {from} to {to} are wrong", show(&key)));
        }
        Ok(Flow::Go)
    }

    fn scan(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let prefix: &[u8] = self.rng.pick(&[b"", b"user/", b"user/3", b"k", b"none"]);
        let after = self.rng.chance(1, 2).then(|| self.key());
        let limit = self.rng.pick(&[1, 10, 10_000]);
        let mut found = Vec::new();
        let result = engine.scan(namespace, prefix, after.as_deref(), |entry| {
            found.push((entry.key.to_vec(), entry.size));
            if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if let Err(error) = result {
            return self.failed(engine, &error, None);
        }
        let now = self.now_ms();
        let empty = super::model::Space::new();
        let space = self.model.current.get(&namespace).unwrap_or(&empty);
        let mut rest = found.iter().peekable();
        for key in space.keys() {
            if !key.starts_with(prefix) || after.as_ref().is_some_and(|after| key <= after) {
                continue;
            }
            let size = match rest.peek() {
                Some((next, size)) if next == key => {
                    rest.next();
                    Some(*size)
                }
                None if found.len() == limit => break,
                _ => None,
            };
            let right = match (self.model.sight(namespace, key, now), size) {
                (Sight::Nothing, None) | (Sight::Unsure, _) => true,
                (Sight::Exactly(entry), Some(size)) => entry.value.len() as u64 == size,
                _ => false,
            };
            if !right {
                return Err(format!("scan {name} of {}: {} has {size:?}", show(prefix), show(key)));
            }
        }
        match rest.next() {
            Some((key, _)) => Err(format!("scan {name}: {} should not be there", show(key))),
            None => Ok(Flow::Go),
        }
    }

    fn figures(&mut self, engine: &Engine, (name, namespace): Place) -> Checked<Flow> {
        let now = self.now_ms();
        let empty = super::model::Space::new();
        let space = self.model.current.get(&namespace).unwrap_or(&empty);
        let sure =
            |key: &Vec<u8>| matches!(self.model.sight(namespace, key, now), Sight::Exactly(_));
        let least = space.keys().filter(|key| sure(key)).count() as u64;
        let count = engine.count(namespace);
        if count < least || count > space.len() as u64 {
            return Err(format!("{name} counts {count} keys, not {least} to {}", space.len()));
        }
        let key = match engine.random_key(namespace) {
            Ok(key) => key,
            Err(error) => return self.failed(engine, &error, None),
        };
        let right = match &key {
            Some(key) => !matches!(self.model.sight(namespace, key, now), Sight::Nothing),
            None => least == 0,
        };
        if !right {
            return Err(format!("a random key of {name} is {key:?}"));
        }
        let stats = engine.stats();
        let known: usize = self.model.current.values().map(|space| space.len()).sum();
        if stats.keys < least || (self.tally.purged == 0 && stats.keys > known as u64 + 10_000) {
            return Err(format!("the figures are wrong: {stats:?}"));
        }
        Ok(Flow::Go)
    }
}

fn options(entry: &Entry) -> WriteOptions<'_> {
    WriteOptions {
        expires_at_ms: entry.expires_at_ms,
        metadata: &entry.metadata,
        ..WriteOptions::default()
    }
}

fn show(key: &[u8]) -> String {
    format!("\"{}\"", key[..key.len().min(30)].escape_ascii())
}

fn show_entry(entry: &Entry) -> String {
    format!("{} bytes, expires {:?}", entry.value.len(), entry.expires_at_ms)
}
