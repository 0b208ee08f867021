//! The walk over the keys that either side has or had, some of them at a time.

use super::TwoWaySync;
use super::apply::{Outcome, apply};
use super::decide::{Bring, Step, agreed, decide};
use crate::backend::{ListEntry, ObjectHead};
use crate::error::Result;
use crate::migration::Side;
use crate::migration::crew::{Bounds, Crew};
use crate::migration::keys::Keys;
use crate::migration::ledger::{Entry, OpenLedger, Pending};
use crate::version::Version;

/// Keys that are looked at together: so many are written into the ledger at once.
const CHUNK_KEYS: usize = 1000;

/// Times that a key is looked at before it is left for the next run.
const ROUNDS: usize = 8;

/// A walk.
pub(super) struct Walk<'a> {
    sync: &'a TwoWaySync,
    ledger: OpenLedger,
    source: Keys,
    target: Keys,
    known: Known,
}

/// Keys of the ledger, in step with those of the sides.
#[derive(Default)]
struct Known {
    entries: std::collections::VecDeque<(String, Entry)>,
    next: Option<String>,
}

/// A key that is being brought level.
#[derive(Debug)]
struct Slot {
    key: String,
    /// As the ledger has it.
    stored: Entry,
    entry: Entry,
    differ: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be looked at.
    Open,
    /// Both sides agree.
    Settled,
}

/// What a side has, and what is to be done about it.
struct Looked {
    agreed: Option<Version>,
    step: Step,
}

impl<'a> Walk<'a> {
    pub(super) fn new(sync: &'a TwoWaySync, ledger: OpenLedger) -> Self {
        let prefix = sync.options.pattern.prefix();
        let keys = |side| Keys::new(std::sync::Arc::clone(sync.side(side)), prefix);
        let known = Known { next: Some(prefix.to_owned()), ..Known::default() };
        Self { sync, ledger, source: keys(Side::Source), target: keys(Side::Target), known }
    }

    pub(super) async fn run(mut self) -> Result<()> {
        loop {
            let (slots, more) = self.gather().await?;
            self.level(slots).await?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The next keys that may need something; and whether there are more behind them.
    async fn gather(&mut self) -> Result<(Vec<Slot>, bool)> {
        let mut slots = Vec::new();
        for _ in 0..CHUNK_KEYS {
            let source = self.source.peek().await?.map(str::to_owned);
            let target = self.target.peek().await?.map(str::to_owned);
            let known = self.peek_known().await?;
            let Some(key) = [source, target, known].into_iter().flatten().min() else {
                return Ok((slots, false));
            };
            let (source, target) = (self.source.take(&key), self.target.take(&key));
            let stored = match self.known.entries.front() {
                Some((known, entry)) if *known == key => {
                    let entry = *entry;
                    self.known.entries.pop_front();
                    entry
                }
                _ => Entry::default(),
            };
            if !self.sync.options.pattern.matches(&key) {
                continue;
            }
            self.sync.meter.count(|report| report.scanned += 1);
            if is_level(&stored, source.as_ref(), target.as_ref()) {
                self.sync.meter.count(|report| report.unchanged += 1);
                continue;
            }
            let state = State::Open;
            slots.push(Slot { key, stored, entry: stored, differ: false, state });
        }
        Ok((slots, true))
    }

    async fn peek_known(&mut self) -> Result<Option<String>> {
        let prefix = self.sync.options.pattern.prefix();
        loop {
            if let Some((key, _)) = self.known.entries.front() {
                return Ok(key.starts_with(prefix).then(|| key.clone()));
            }
            let Some(from) = self.known.next.take() else { return Ok(None) };
            let (entries, next) = self.ledger.read(&from).await?;
            self.known.entries = entries.into();
            self.known.next = next;
        }
    }

    /// Brings some keys level.
    async fn level(&mut self, mut slots: Vec<Slot>) -> Result<()> {
        let mut found_level = true;
        for round in 0..ROUNDS {
            let looked = self.look(&slots).await?;
            if looked.is_empty() {
                break;
            }
            let mut work = Vec::new();
            for (number, Looked { agreed, step }) in looked {
                let Some(slot) = slots.get_mut(number) else { continue };
                let mut version = Version::default();
                if let Step::Bring(bring) = &step {
                    version = self.version(bring);
                    let pending = Some(Pending { version, to: bring.to });
                    slot.entry = Entry { agreed, pending };
                }
                if let Step::Settled(agreed) = step {
                    slot.entry = Entry { agreed, pending: None };
                    slot.state = State::Settled;
                    if round == 0 && slot.entry == slot.stored {
                        self.sync.meter.count(|report| report.unchanged += 1);
                    }
                    continue;
                }
                work.push((number, slot.key.clone(), step, version));
            }
            if work.is_empty() {
                break;
            }
            found_level = false;
            if self.sync.options.dry_run {
                return self.count(&mut slots, work).await;
            }
            self.write(&mut slots).await?;
            for (number, outcome) in self.act(work).await? {
                let Some(slot) = slots.get_mut(number) else { continue };
                match outcome {
                    Outcome::Again => {}
                    Outcome::Differ => slot.differ = true,
                    Outcome::Settled(agreed) => {
                        slot.entry = Entry { agreed, pending: None };
                        slot.state = State::Settled;
                    }
                }
            }
        }
        let open = slots.iter().filter(|slot| slot.state == State::Open).count() as u64;
        self.sync.meter.count(|report| report.deferred += open);
        if self.sync.options.dry_run {
            return Ok(());
        }
        if !found_level {
            // What the ledger says that both have must not be lost by one of them.
            self.sync.source.flush().await?;
            self.sync.target.flush().await?;
        }
        self.write(&mut slots).await
    }

    /// What both sides have of the keys that are open, and so what is to be done.
    async fn look(&self, slots: &[Slot]) -> Result<Vec<(usize, Looked)>> {
        let mut crew = Crew::new(self.bounds());
        for (number, slot) in slots.iter().enumerate() {
            if slot.state == State::Settled {
                continue;
            }
            let sync = self.sync.clone();
            let (key, entry, differ) = (slot.key.clone(), slot.entry, slot.differ);
            let look = async move {
                let source = sync.source.head(&key).await?;
                let target = sync.target.head(&key).await?;
                let version = |head: &Option<ObjectHead>| head.as_ref().map(|head| head.version);
                let (here, there) = (version(&source), version(&target));
                let agreed = agreed(&entry, here, there);
                let rule = &sync.options.conflict;
                // What was compared may have been written since.
                let differ = differ && here == there;
                let step = decide(&key, rule, agreed, source.as_ref(), target.as_ref(), differ);
                Ok(Looked { agreed, step })
            };
            crew.begin(number, 0, look).await;
        }
        crew.finish().await
    }

    /// The version that an object gets where it goes: its own, unless it replaces a newer one.
    fn version(&self, bring: &Bring) -> Version {
        let (own, env) = (bring.head.version, &self.sync.env);
        match bring.over {
            Some(over) if bring.is_older() => {
                self.sync.clock.next_after(over, env.now_ms(), env.random_u64())
            }
            _ => own,
        }
    }

    async fn act(
        &self,
        work: Vec<(usize, String, Step, Version)>,
    ) -> Result<Vec<(usize, Outcome)>> {
        let mut crew = Crew::new(self.bounds());
        for (number, key, step, version) in work {
            let bytes = match &step {
                Step::Bring(bring) => bring.head.size,
                _ => 0,
            };
            let limit = self.sync.options.bytes_per_second_max;
            self.sync.meter.throttle.wait(&*self.sync.env, bytes, limit).await;
            let sync = self.sync.clone();
            let act = async move {
                let outcome = apply(&sync, &key, step, version).await;
                outcome.map_err(|error| error.with_key(key))
            };
            crew.begin(number, bytes, act).await;
        }
        crew.finish().await
    }

    /// Counts what would be done.
    async fn count(
        &self,
        slots: &mut [Slot],
        work: Vec<(usize, String, Step, Version)>,
    ) -> Result<()> {
        let meter = &self.sync.meter;
        let (compare, rest): (Vec<_>, Vec<_>) =
            work.into_iter().partition(|(_, _, step, _)| matches!(step, Step::Compare(_)));
        let mut steps: Vec<Step> = rest.into_iter().map(|(_, _, step, _)| step).collect();
        for slot in slots.iter_mut() {
            slot.state = State::Settled;
        }
        for (number, outcome) in self.act(compare).await? {
            if let (Outcome::Differ, Some(slot)) = (outcome, slots.get_mut(number)) {
                (slot.differ, slot.state) = (true, State::Open);
            }
        }
        steps.extend(self.look(slots).await?.into_iter().map(|(_, looked)| looked.step));
        for step in steps {
            match step {
                Step::Bring(bring) => meter.copied(bring.to, bring.head.size, bring.conflict),
                Step::Remove { from, .. } => meter.removed(from),
                Step::Settled(_) | Step::Compare(_) => {}
            }
        }
        Ok(())
    }

    /// Brings the ledger up to date with what is known of the keys.
    async fn write(&mut self, slots: &mut [Slot]) -> Result<()> {
        let changed: Vec<(String, Entry)> = slots
            .iter()
            .filter(|slot| slot.entry != slot.stored)
            .map(|slot| (slot.key.clone(), slot.entry))
            .collect();
        self.ledger.update(&changed).await?;
        for slot in slots {
            slot.stored = slot.entry;
        }
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        let options = &self.sync.options;
        Bounds {
            concurrency: options.concurrency,
            bytes_in_flight_max: options.bytes_in_flight_max,
        }
    }
}

/// Whether the listings say that a key is as both sides had it.
fn is_level(entry: &Entry, source: Option<&ListEntry>, target: Option<&ListEntry>) -> bool {
    let version = |listed: Option<&ListEntry>| listed.and_then(|listed| listed.version);
    entry.pending.is_none()
        && entry.agreed.is_some()
        && version(source) == entry.agreed
        && version(target) == entry.agreed
}
