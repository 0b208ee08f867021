//! What writers did, as they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::env::SeededRandom;
use sira_store::{StorageBackend, StorageOptions, Version};

/// Writers of a proof; each has keys of its own.
pub(super) const WRITERS: u64 = 2;
/// Time between two writes of a writer.
const PAUSE: Duration = Duration::from_millis(2);

/// What a writer was told, or that it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It begins to change the key: what becomes of it is open.
    Begun { key: String },
    /// The key holds this.
    Put { key: String, version: Version, sum: u64 },
    /// The key holds nothing.
    Gone { key: String },
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Begun { key } => write!(f, "begun {key}"),
            Self::Put { key, version, sum } => write!(f, "put {key} {version} {sum}"),
            Self::Gone { key } => write!(f, "gone {key}"),
        }
    }
}

impl Told {
    /// The line of a mover that writes; `None` for another line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["begun", key] => Some(Self::Begun { key: key.to_owned() }),
            ["put", key, version, sum] => Some(Self::Put {
                key: key.to_owned(),
                version: version.parse().ok()?,
                sum: sum.parse().ok()?,
            }),
            ["gone", key] => Some(Self::Gone { key: key.to_owned() }),
            _ => None,
        }
    }

    fn key(&self) -> &str {
        match self {
            Self::Begun { key } | Self::Put { key, .. } | Self::Gone { key } => key,
        }
    }
}

/// The last that was told of each key.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: BTreeMap<String, Told>,
    touched: BTreeSet<String>,
    writes: u64,
}

impl History {
    pub(super) fn note(&self, told: Told) {
        let mut state = self.0.lock();
        if let Told::Begun { key } = &told {
            state.writes += 1;
            state.touched.insert(key.clone());
        }
        state.last.insert(told.key().to_owned(), told);
    }

    /// Writes that were begun.
    pub(super) fn writes(&self) -> u64 {
        self.0.lock().writes
    }

    /// What was never changed is there as it was.
    pub(super) fn check_untouched(&self, found: &BTreeMap<String, (Version, u64)>) {
        let state = self.0.lock();
        for (key, told) in state.last.iter().filter(|(key, _)| !state.touched.contains(*key)) {
            let Told::Put { version, sum, .. } = told else { panic!("{told}") };
            assert_eq!(found.get(key), Some(&(*version, *sum)), "{key} was passed over");
        }
    }

    /// What is there is what was told; a change without an answer may have been made or not.
    pub(super) fn check(&self, found: &BTreeMap<String, (Version, u64)>) {
        let state = self.0.lock();
        for (key, told) in &state.last {
            match told {
                Told::Begun { .. } => {}
                Told::Put { version, sum, .. } => {
                    assert_eq!(found.get(key), Some(&(*version, *sum)), "{key} is lost");
                }
                Told::Gone { .. } => assert_eq!(found.get(key), None, "{key} is back"),
            }
        }
        for key in found.keys() {
            assert!(state.last.contains_key(key), "nobody wrote {key}");
        }
    }
}

pub(super) fn key(number: u64) -> String {
    format!("object:{number:07}")
}

/// Random bytes: mostly few, now and then more.
pub(super) fn value(random: &mut SeededRandom) -> Bytes {
    let length = match random.next_u64() % 100 {
        0 => 20_000,
        part => 60 + part * 4,
    };
    (0..length.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).collect()
}

/// Replaces, removes and adds objects until it is stopped.
pub(super) async fn write_until(
    store: Arc<dyn StorageBackend>,
    writer: u64,
    objects: u64,
    seed: u64,
    stop: Arc<AtomicBool>,
    tell: impl Fn(Told) + Send + 'static,
) {
    let mut random = SeededRandom::new(seed ^ writer);
    while !stop.load(Ordering::Relaxed) {
        // A tenth more keys than there were.
        let number = random.next_u64() % (objects + objects / 10);
        let key = key(number / WRITERS * WRITERS + writer);
        tell(Told::Begun { key: key.clone() });
        if random.next_u64().is_multiple_of(4) {
            store.delete(&key).await.unwrap();
            tell(Told::Gone { key });
        } else {
            let value = value(&mut random);
            let sum = super::sum(&value);
            let version = store.put(&key, value, StorageOptions::default()).await.unwrap();
            tell(Told::Put { key, version, sum });
        }
        tokio::time::sleep(PAUSE).await;
    }
}
