//! Random histories: writers on both sides, syncs among them that die anywhere, and what must hold
//! whenever a sync has come to its end in peace.
//!
//! `SIRA_SYNC_HISTORIES` asks for another number of histories, `SIRA_SYNC_SEED` for another first
//! seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sira_store::env::{SeededRandom, SimEnv};
use sira_store::migration::{ConflictRule, Ledger, SyncOptions, TwoWaySync};
use sira_store::{MemoryBackend, ReadOptions, StorageBackend, StorageOptions, Version};

use super::chaos::Chaos;
use super::everything;

const KEYS: [&str; 3] = ["a", "b", "c"];

const SEPARATOR: &str = "~";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_comes_back() {
    let first = setting("SIRA_SYNC_SEED", 0);
    let mut seen = Seen::default();
    for seed in first..first + setting("SIRA_SYNC_HISTORIES", 10_000) {
        History::new(seed).run(&mut seen).await;
    }
    // The histories are about something.
    assert!(seen.crashes > 1000 && seen.conflicts > 1000 && seen.removals > 1000, "{seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    conflicts: u64,
    removals: u64,
}

/// What a key holds: a value that no other write has.
type Value = u64;

#[derive(Debug, Clone, Copy)]
enum Op {
    Put(Value, Version),
    Removed,
}

impl Op {
    fn value(self) -> Option<Value> {
        match self {
            Self::Put(value, _) => Some(value),
            Self::Removed => None,
        }
    }
}

/// What writers did to a key since both sides were last level.
#[derive(Debug, Default)]
struct Story {
    base: Option<Value>,
    last: [Option<Op>; 2],
    /// Values that a side had when it was written.
    seen: [BTreeSet<Value>; 2],
    /// A side was written, other than by removals.
    put: [bool; 2],
    /// A sync has run since the first of the writes.
    touched: bool,
}

struct History {
    seed: u64,
    random: SeededRandom,
    sides: [Arc<dyn StorageBackend>; 2],
    envs: [Arc<SimEnv>; 2],
    slow: [Arc<dyn StorageBackend>; 2],
    state: Arc<dyn StorageBackend>,
    stories: BTreeMap<&'static str, Story>,
    rule: u64,
    next: Value,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let envs = [1, 2].map(|side| Arc::new(SimEnv::new(seed * 2 + side, 1_000)));
        let store = |env: &Arc<SimEnv>| -> Arc<dyn StorageBackend> {
            Arc::new(MemoryBackend::with_env(1 << 20, Arc::clone(env) as _))
        };
        let sides = [store(&envs[0]), store(&envs[1])];
        let state: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new(1 << 20));
        let slow = [0, 1].map(|side| Chaos::wrap(&sides[side], random.next_u64()));
        let state = Chaos::wrap(&state, random.next_u64());
        let stories = KEYS.map(|key| (key, Story::default())).into();
        let rule = random.below(4);
        Self { seed, random, sides, envs, slow, state, stories, rule, next: 0 }
    }

    fn rule(&self) -> ConflictRule {
        match self.rule {
            0 => ConflictRule::Source,
            1 => ConflictRule::KeepBoth { separator: SEPARATOR.to_owned() },
            _ => ConflictRule::Newest,
        }
    }

    async fn run(mut self, seen: &mut Seen) {
        for _ in 0..self.random.within(2, 6) {
            for _ in 0..self.random.below(5) {
                self.write(seen).await;
            }
            self.sync(seen).await;
        }
        self.rest(seen).await;
    }

    /// Someone writes a key on one side.
    async fn write(&mut self, seen: &mut Seen) {
        let (side, key) = (self.random.below(2) as usize, self.random.pick(&KEYS));
        // Clocks drift, and stand still in between.
        let late = self.random.below(2) as usize;
        self.envs[late].advance_ms(self.random.below(3));
        let store = &self.sides[side];
        let held = store.get(key).await.unwrap();
        let story = self.stories.get_mut(key).unwrap();
        if let Some(value) = &held {
            story.seen[side].insert(std::str::from_utf8(value).unwrap().parse().unwrap());
        }
        if self.random.chance(1, 3) {
            if store.delete(key).await.unwrap() {
                story.last[side] = Some(Op::Removed);
                seen.removals += 1;
            }
            return;
        }
        self.next += 1;
        let options = StorageOptions::default();
        let version = store.put(key, self.next.to_string().into(), options).await.unwrap();
        story.last[side] = Some(Op::Put(self.next, version));
        story.put[side] = true;
    }

    /// A sync with writers in between, which may die.
    async fn sync(&mut self, seen: &mut Seen) {
        let ledger = Ledger::new(Arc::clone(&self.state), "pair");
        let options =
            SyncOptions { conflict: self.rule(), may_empty: true, ..SyncOptions::default() };
        let [source, target] = [0, 1].map(|side| Arc::clone(&self.slow[side]));
        let sync = TwoWaySync::new(source, target, ledger, options).unwrap();
        let sync = sync.with_env(Arc::clone(&self.envs[0]) as _);
        let writes = self.random.chance(1, 2);
        let dies_after = if self.random.chance(1, 2) { self.random.below(120) } else { u64::MAX };
        let mut peaceful = true;
        let running = tokio::spawn(async move { sync.run().await });
        let mut turns = 0;
        while !running.is_finished() {
            if turns == dies_after {
                running.abort();
                seen.crashes += u64::from(running.await.is_err());
                return self.touch();
            }
            if writes && self.random.chance(1, 8) {
                self.write(seen).await;
                peaceful = false;
            }
            turns += 1;
            tokio::task::yield_now().await;
        }
        let report = running.await.unwrap().unwrap();
        seen.conflicts += report.conflicts;
        if peaceful && report.deferred == 0 {
            self.check().await;
        } else {
            self.touch();
        }
    }

    /// A sync has come between the writes.
    fn touch(&mut self) {
        self.stories.values_mut().for_each(|story| story.touched = true);
    }

    /// One sync in peace.
    async fn rest(&mut self, seen: &mut Seen) {
        let ledger = Ledger::new(Arc::clone(&self.state), "pair");
        let options =
            SyncOptions { conflict: self.rule(), may_empty: true, ..SyncOptions::default() };
        let [source, target] = [0, 1].map(|side| Arc::clone(&self.slow[side]));
        let sync = TwoWaySync::new(source, target, ledger, options).unwrap();
        let report = sync.with_env(Arc::clone(&self.envs[1]) as _).run().await.unwrap();
        assert_eq!(report.deferred, 0, "seed {}", self.seed);
        seen.conflicts += report.conflicts;
        self.check().await;
    }

    /// Both sides are the same, and hold what the writers left.
    async fn check(&mut self) {
        let seed = self.seed;
        let all = everything(&self.sides[0]).await;
        assert_eq!(all, everything(&self.sides[1]).await, "seed {seed}");
        for (key, story) in &mut self.stories {
            let held = self.sides[0].read(key, ReadOptions::default()).await.unwrap();
            let held: Option<Value> =
                held.map(|held| std::str::from_utf8(&held.value).unwrap().parse().unwrap());
            let why = format!("seed {seed}: {key} holds {held:?} after {story:?}");
            match story.last {
                [None, None] => assert_eq!(held, story.base, "{why}"),
                [Some(op), None] | [None, Some(op)] => assert_eq!(held, op.value(), "{why}"),
                [Some(Op::Put(a, at_a)), Some(Op::Put(b, at_b))] => {
                    assert!(held == Some(a) || held == Some(b), "{why}");
                    let newest = if at_a > at_b { a } else { b };
                    if self.rule >= 1 && at_a != at_b {
                        assert_eq!(held, Some(newest), "{why}");
                    }
                    if self.rule == 1 && !story.touched {
                        // The other one is there too.
                        let other = if held == Some(a) { b } else { a }.to_string();
                        let aside = format!("{key}{SEPARATOR}");
                        let mut kept = all.iter().filter(|(name, _, _)| name.starts_with(&aside));
                        assert!(kept.any(|kept| kept.2 == other.as_bytes()), "{why}");
                    }
                }
                [a @ Some(Op::Removed), b @ Some(Op::Put(..))]
                | [a @ Some(Op::Put(..)), b @ Some(Op::Removed)] => {
                    let (put, other) = match (a, b) {
                        (Some(Op::Put(value, _)), _) => (value, 1),
                        (_, Some(Op::Put(value, _))) => (value, 0),
                        _ => unreachable!(),
                    };
                    assert!(held.is_none() || held == Some(put), "{why}");
                    // Who removed had not seen it, nor had an object there that may have won over it
                    // before it was removed itself.
                    let beaten = story.touched && story.put[other];
                    if !beaten && !story.seen[other].contains(&put) {
                        assert_eq!(held, Some(put), "{why}");
                    }
                }
                [Some(Op::Removed), Some(Op::Removed)] => assert_eq!(held, None, "{why}"),
            }
            *story = Story { base: held, ..Story::default() };
        }
    }
}
