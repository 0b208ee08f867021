//! Copies on mirrors: where they are written, when they are read, and how they are made level.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::driver::DriverBackend;
use sira_store::env::SystemEnv;
use sira_store::placement::{
    Catalog, CopyFigures, PlacedBackend, PlacementPolicy, PlacementRequest,
};
use sira_store::router::Route;
use sira_store::{
    Condition, Metadata, ReadOptions, Retry, StorageBackend, StorageError, StorageOptions,
};

use super::flaky::{Flaky, Outage};
use crate::driver::memory::{Kind, MemoryDriver};

/// One backend and its mirrors, which can be changed.
#[derive(Debug, Clone)]
struct Fixed(Arc<Mutex<Route>>);

impl Fixed {
    fn set(&self, at: &str, mirrors: &[&str]) {
        let mut route = Route::to([at]);
        route.mirrors = mirrors.iter().map(|name| (*name).to_owned()).collect();
        *self.0.lock() = route;
    }
}

impl PlacementPolicy for Fixed {
    fn choose(&self, _: &PlacementRequest<'_>) -> Route {
        self.0.lock().clone()
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Stores {
    placed: Arc<PlacedBackend>,
    policy: Fixed,
    /// The backends themselves, past outages.
    inside: [Arc<dyn StorageBackend>; 3],
    outages: [Outage; 3],
    figures: Arc<CopyFigures>,
}

impl Stores {
    /// Objects on `a`, copies on `b`.
    async fn open() -> Self {
        let backend = || {
            let driver = MemoryDriver::new(Kind::default());
            Arc::new(DriverBackend::new(driver)) as Arc<dyn StorageBackend>
        };
        let (inside, outages) = (NAMES.map(|_| backend()), NAMES.map(|_| Outage::default()));
        let backends = NAMES.iter().zip(&inside).zip(&outages).map(|((name, inner), outage)| {
            let flaky = Flaky { inner: Arc::clone(inner), outage: outage.clone() };
            ((*name).to_owned(), Arc::new(flaky) as Arc<dyn StorageBackend>)
        });
        let policy = Fixed(Arc::default());
        policy.set("a", &["b"]);
        let catalog = Catalog::new(backend()).unwrap();
        let (env, by) = (Arc::new(SystemEnv), Arc::new(policy.clone()));
        let placed = PlacedBackend::open(&catalog, "n", "a", backends.collect(), by, env).await;
        let figures = Arc::new(CopyFigures::default());
        let placed = Arc::new(placed.unwrap().with_figures(Arc::clone(&figures)));
        Self { placed, policy, inside, outages, figures }
    }

    async fn put(&self, key: &str, value: &'static str) {
        self.placed.put(key, value.into(), StorageOptions::default()).await.unwrap();
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StorageError> {
        let value = self.placed.get(key).await?;
        Ok(value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    /// Which backends hold something under a key.
    async fn holds(&self, key: &str) -> Vec<&'static str> {
        let mut names = Vec::new();
        for (name, backend) in NAMES.iter().zip(&self.inside) {
            if backend.exists(key).await.unwrap() {
                names.push(*name);
            }
        }
        names
    }

    fn away(&self, name: &str, away: bool) {
        self.outages[NAMES.iter().position(|other| *other == name).unwrap()].set(away);
    }
}

#[tokio::test]
async fn a_copy_is_as_the_object_and_is_listed_once() {
    let stores = Stores::open().await;
    let metadata = Metadata { content_type: Some("text/plain".to_owned()), ..Metadata::default() };
    let ttl = Some(Duration::from_secs(600));
    let options = StorageOptions { ttl, metadata, ..StorageOptions::default() };
    let version = stores.placed.put("k", "v".into(), options).await.unwrap();
    let read = |at: usize| stores.inside[at].read("k", ReadOptions::default());
    let (object, copy) = (read(0).await.unwrap().unwrap(), read(1).await.unwrap().unwrap());
    assert_eq!(object, copy);
    assert_eq!(object.head.version, version);
    assert!(object.head.expires_at_ms.is_some());
    assert_eq!(stores.placed.list_keys("", 10).await.unwrap(), ["k"]);
    assert_eq!(stores.placed.copies("k").await.unwrap().on["b"], Some(version.as_u64()));
    assert!(stores.placed.record().mirrors.contains("b"));
    assert!(!stores.placed.record().used.contains("b"));

    assert!(stores.placed.delete("k").await.unwrap());
    assert!(stores.holds("k").await.is_empty());
    assert!(stores.placed.copies("k").await.unwrap().is_empty());
    assert!(!stores.placed.delete("k").await.unwrap());
}

#[tokio::test]
async fn a_copy_answers_while_the_objects_backend_is_away() {
    let stores = Stores::open().await;
    stores.put("k", "v").await;
    stores.away("a", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("v"));
    let head = stores.placed.head("k").await.unwrap().unwrap();
    let condition = Condition::IfNoneMatch(head.version);
    let read = ReadOptions { condition, ..ReadOptions::default() };
    let error = stores.placed.read("k", read).await.unwrap_err();
    assert!(matches!(error, StorageError::PreconditionFailed(_)), "{error}");
    // Writes go to the object's backend or nowhere.
    let error = stores.placed.put("k", "w".into(), StorageOptions::default()).await.unwrap_err();
    assert_eq!(error.detail().backend.as_deref(), Some("a"));
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(stores.figures.counts().served, 4);

    // Whether this one took effect nobody knows, so the copy counts no more.
    stores.away("a", false);
    stores.outages[0].set_after_write();
    let error = stores.placed.put("k", "x".into(), StorageOptions::default()).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Ambiguous);
    assert_eq!(stores.get("k").await.unwrap_err().detail().backend.as_deref(), Some("a"));
    stores.away("a", false);
    stores.put("k", "y").await;
    stores.away("a", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("y"));
}

#[tokio::test]
async fn a_copy_that_is_behind_is_not_read_until_it_is_mended() {
    let stores = Stores::open().await;
    stores.put("k", "1").await;
    stores.away("b", true);
    stores.put("k", "2").await;
    stores.away("b", false);
    assert_eq!(stores.inside[1].get("k").await.unwrap().unwrap(), "1");
    stores.away("a", true);
    let error = stores.get("k").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    stores.away("a", false);

    assert_eq!(stores.placed.mend_all().await.unwrap(), 0);
    stores.away("a", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("2"));
    stores.away("a", false);
    let counts = stores.figures.counts();
    assert_eq!((counts.fell_behind, counts.mended, counts.not_served), (1, 1, 1));

    // A removal that the mirror missed is made up for too.
    stores.away("b", true);
    assert!(stores.placed.delete("k").await.unwrap());
    stores.away("b", false);
    assert_eq!(stores.holds("k").await, ["b"]);
    assert_eq!(stores.get("k").await.unwrap(), None);
    assert!(stores.placed.mend("k").await.unwrap());
    assert!(stores.holds("k").await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_is_mended_by_itself() {
    let stores = Stores::open().await;
    stores.placed.keep_mended();
    stores.away("b", true);
    stores.put("k", "1").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stores.holds("k").await, ["a"]);
    stores.away("b", false);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stores.holds("k").await, ["a", "b"]);
    assert!(stores.placed.copies("k").await.unwrap().is_level());
}

#[tokio::test]
async fn another_policy_leaves_no_copies_behind() {
    let stores = Stores::open().await;
    stores.put("k", "1").await;
    stores.policy.set("a", &["c"]);
    stores.put("k", "2").await;
    assert_eq!(stores.holds("k").await, ["a", "c"]);
    stores.policy.set("a", &[]);
    stores.away("c", true);
    stores.put("k", "3").await;
    stores.away("c", false);
    stores.away("a", true);
    assert!(stores.get("k").await.is_err());
    stores.away("a", false);
    stores.put("k", "4").await;
    assert_eq!(stores.holds("k").await, ["a"]);
    assert!(stores.placed.copies("k").await.unwrap().is_empty());
}

#[tokio::test]
async fn an_object_moves_onto_its_mirror() {
    let stores = Stores::open().await;
    stores.policy.set("a", &["b", "c"]);
    stores.put("k", "v").await;
    let before = stores.placed.head("k").await.unwrap().unwrap();
    stores.placed.relocate("k", "b").await.unwrap();
    assert_eq!(stores.holds("k").await, ["b", "c"]);
    assert_eq!(stores.placed.place("k").await.unwrap(), "b");
    assert_eq!(stores.placed.head("k").await.unwrap().unwrap(), before);
    assert_eq!(stores.placed.list_keys("", 10).await.unwrap(), ["k"]);
    // A copy on a backend that holds objects, too, is no second object, nor is one that is left.
    stores.policy.set("c", &["b"]);
    stores.put("l", "v").await;
    let keys = async || stores.placed.list_keys("", 10).await.unwrap();
    assert_eq!(stores.holds("l").await, ["b", "c"]);
    assert_eq!(keys().await, ["k", "l"]);
    stores.away("b", true);
    assert!(stores.placed.delete("l").await.unwrap());
    stores.away("b", false);
    assert_eq!(stores.holds("l").await, ["b"]);
    assert_eq!(keys().await, ["k"]);
    // The other copy is as good as before.
    stores.away("b", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("v"));
    stores.away("b", false);
    stores.policy.set("b", &["a"]);
    stores.put("k", "w").await;
    assert_eq!(stores.holds("k").await, ["a", "b"]);
}
