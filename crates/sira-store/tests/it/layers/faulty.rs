//! An engine behind a network that loses requests, loses answers, delays and refuses them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use sira_store::env::SeededRandom;
use sira_store::{
    Capabilities, Condition, Object, ObjectHead, ReadOptions, Result, Retry, StorageBackend,
    StorageError, StorageOptions, Version,
};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is answered.
    Answer,
    /// It never reaches the engine.
    LoseRequest,
    /// It takes effect, and nobody is told.
    LoseAnswer,
    /// Its caller is told that nothing came back, and it reaches the engine later.
    Delay,
    /// As the two losses, with no error either: the caller waits for ever.
    HangBefore,
    HangAfter,
    /// The engine says that it is down, which is true.
    Refuse,
}

/// How many of a hundred requests meet each fate.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    pub(crate) lose_request: u64,
    pub(crate) lose_answer: u64,
    pub(crate) delay: u64,
    pub(crate) hang: u64,
    pub(crate) refuse: u64,
}

/// What the engine did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Put { key: String, value: Bytes },
    Removed { key: String },
}

#[derive(Debug)]
struct Shared {
    random: Mutex<SeededRandom>,
    weather: Weather,
    script: Mutex<VecDeque<Fate>>,
    effects: Mutex<Vec<Effect>>,
    calls: Mutex<Vec<&'static str>>,
}

/// One client's connection to the engine.
#[derive(Debug, Clone)]
pub(crate) struct Faulty {
    inner: Arc<dyn StorageBackend>,
    shared: Arc<Shared>,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn StorageBackend>, weather: Weather, seed: u64) -> Self {
        let shared = Shared {
            random: Mutex::new(SeededRandom::new(seed)),
            weather,
            script: Mutex::default(),
            effects: Mutex::default(),
            calls: Mutex::default(),
        };
        Self { inner, shared: Arc::new(shared) }
    }

    /// An engine behind a network that does what it is told, and answers once the script has ended.
    pub(crate) fn scripted(inner: Arc<dyn StorageBackend>, script: &[Fate]) -> Self {
        let faulty = Self::new(inner, Weather::default(), 0);
        faulty.shared.script.lock().extend(script);
        faulty
    }

    /// The same network to the same engine, by another handle of it.
    pub(crate) fn to(&self, inner: Arc<dyn StorageBackend>) -> Self {
        Self { inner, shared: Arc::clone(&self.shared) }
    }

    /// What the engine did, in order.
    pub(crate) fn effects(&self) -> Vec<Effect> {
        self.shared.effects.lock().clone()
    }

    /// Names of the requests that were made.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.shared.calls.lock().clone()
    }

    fn fate(&self, call: &'static str) -> Fate {
        self.shared.calls.lock().push(call);
        if let Some(fate) = self.shared.script.lock().pop_front() {
            return fate;
        }
        let weather = self.shared.weather;
        let mut drawn = self.shared.random.lock().below(100);
        for (fate, share) in [
            (Fate::LoseRequest, weather.lose_request),
            (Fate::LoseAnswer, weather.lose_answer),
            (Fate::Delay, weather.delay),
            (Fate::HangBefore, weather.hang),
            (Fate::HangAfter, weather.hang),
            (Fate::Refuse, weather.refuse),
        ] {
            if drawn < share {
                return fate;
            }
            drawn -= share;
        }
        Fate::Answer
    }

    /// Time that a message takes; none where all is scripted.
    async fn travel(&self) {
        if self.shared.weather.lose_request > 0 {
            let ms = self.shared.random.lock().below(4);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// Makes a request that meets `fate`.
    async fn request<T, F>(&self, fate: Fate, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.travel().await;
        match fate {
            Fate::Answer => {
                let answer = work.await;
                self.travel().await;
                answer
            }
            Fate::LoseRequest => Err(lost()),
            Fate::LoseAnswer => {
                let _ = work.await;
                Err(lost())
            }
            Fate::Delay => {
                let ms = self.shared.random.lock().within(1, 200);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    let _ = work.await;
                });
                Err(lost())
            }
            Fate::HangBefore => std::future::pending().await,
            Fate::HangAfter => {
                let _ = work.await;
                std::future::pending().await
            }
            Fate::Refuse => Err(StorageError::unavailable("the engine is down")),
        }
    }
}

fn lost() -> StorageError {
    StorageError::timeout("nothing came back").with_retry(Retry::Ambiguous)
}

#[async_trait]
impl StorageBackend for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &str, value: Bytes, options: StorageOptions) -> Result<Version> {
        let fate = self.fate("put");
        let (faulty, key) = (self.clone(), key.to_owned());
        self.request(fate, async move {
            let version = faulty.inner.put(&key, value.clone(), options).await?;
            faulty.shared.effects.lock().push(Effect::Put { key, value });
            Ok(version)
        })
        .await
    }

    async fn read(&self, key: &str, options: ReadOptions) -> Result<Option<Object>> {
        let fate = self.fate("read");
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        self.request(fate, async move { inner.read(&key, options).await }).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>> {
        let fate = self.fate("head");
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        self.request(fate, async move { inner.head(&key).await }).await
    }

    async fn remove(&self, key: &str, condition: Condition) -> Result<bool> {
        let fate = self.fate("remove");
        let (faulty, key) = (self.clone(), key.to_owned());
        self.request(fate, async move {
            let removed = faulty.inner.remove(&key, condition).await?;
            if removed {
                faulty.shared.effects.lock().push(Effect::Removed { key });
            }
            Ok(removed)
        })
        .await
    }

    async fn batch(
        &self,
        operations: Vec<sira_store::BatchOperation>,
    ) -> Result<Vec<sira_store::BatchResult>> {
        let fate = self.fate("batch");
        let inner = Arc::clone(&self.inner);
        self.request(fate, async move { inner.batch(operations).await }).await
    }
}
