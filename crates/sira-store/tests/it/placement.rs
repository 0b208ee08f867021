//! Objects that lie on several backends: conformance, and random histories checked against what a
//! register may do.

mod check;
pub(crate) mod flaky;
mod mirrors;
mod replicas;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::{Area, DriverBackend};
use sira_store::env::SystemEnv;
use sira_store::placement::{
    Acknowledge, Catalog, Consistency, PlacedBackend, PlacementPolicy, PlacementRequest,
};
use sira_store::router::{DataPattern, Route, StorageRouter};
use sira_store::{Condition, StorageBackend, StorageError, StorageOptions};

use crate::driver::memory::{Kind, MemoryDriver};
use world::{Scenario, run};

/// Spreads keys over the backends, and sometimes leaves a choice.
#[derive(Debug)]
struct ByKey;

impl PlacementPolicy for ByKey {
    fn choose(&self, request: &PlacementRequest<'_>) -> Route {
        let sum: usize = request.key.bytes().map(usize::from).sum();
        let mut names = request.backends.to_vec();
        let first = sum % names.len();
        names.rotate_left(first);
        names.truncate(1 + sum % 2);
        Route::to(names)
    }
}

/// Always names one backend.
#[derive(Debug)]
struct Only(&'static str);

impl PlacementPolicy for Only {
    fn choose(&self, _: &PlacementRequest<'_>) -> Route {
        Route::to([self.0])
    }
}

struct Stores {
    catalog: MemoryDriver,
    data: BTreeMap<&'static str, MemoryDriver>,
}

impl Stores {
    fn new() -> Self {
        let driver = || MemoryDriver::new(Kind::default());
        Self { catalog: driver(), data: ["a", "b", "c"].map(|name| (name, driver())).into() }
    }

    async fn open(&self, policy: impl PlacementPolicy + 'static) -> PlacedBackend {
        self.try_open(policy, &["a", "b", "c"]).await.unwrap()
    }

    async fn try_open(
        &self,
        policy: impl PlacementPolicy + 'static,
        names: &[&str],
    ) -> sira_store::Result<PlacedBackend> {
        let catalog = Catalog::new(Arc::new(DriverBackend::new(self.catalog.clone()))).unwrap();
        let backends = self.data.iter().filter(|(name, _)| names.contains(name));
        let backends = backends
            .map(|(name, driver)| {
                let backend: Arc<dyn StorageBackend> = Arc::new(DriverBackend::new(driver.clone()));
                ((*name).to_owned(), backend)
            })
            .collect();
        PlacedBackend::open(&catalog, "n", "a", backends, Arc::new(policy), Arc::new(SystemEnv))
            .await
    }

    fn holds(&self, key: &str) -> Vec<&'static str> {
        let there = |driver: &MemoryDriver| driver.keys(Area::Objects).iter().any(|k| k == key);
        self.data.iter().filter(|(_, driver)| there(driver)).map(|(name, _)| *name).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn objects_on_three_backends_conform() {
    let stores = Stores::new();
    let placed = Arc::new(stores.open(ByKey).await);
    let report = conformance::run(placed, ConformanceOptions::default()).await;
    let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
    assert!(report.passed.len() > 50, "{report}");
}

#[tokio::test]
async fn a_changed_policy_loses_nothing() {
    let stores = Stores::new();
    let put = |key: &'static str, value: &'static str| (key, value);
    let first = stores.open(Only("a")).await;
    for (key, value) in [put("x", "1"), put("y", "1")] {
        first.put(key, value.into(), StorageOptions::default()).await.unwrap();
    }
    let second = stores.open(Only("b")).await;
    assert_eq!(second.get("x").await.unwrap().unwrap(), "1");
    let version = second.head("x").await.unwrap().unwrap().version;
    // A condition holds across the move that the write brings about.
    let matching =
        StorageOptions { condition: Condition::IfMatch(version), ..StorageOptions::default() };
    second.put("x", "2".into(), matching.clone()).await.unwrap();
    let error = second.put("x", "3".into(), matching).await.unwrap_err();
    assert!(matches!(error, StorageError::PreconditionFailed(_)), "{error}");
    assert_eq!(stores.holds("x"), ["b"]);
    assert_eq!(stores.holds("y"), ["a"]);
    assert_eq!(second.list_keys("", 10).await.unwrap(), ["x", "y"]);

    let third = stores.open(Only("c")).await;
    assert_eq!(third.get("x").await.unwrap().unwrap(), "2");
    assert!(third.delete("y").await.unwrap());
    third.put("z", "3".into(), StorageOptions::default()).await.unwrap();
    assert_eq!(stores.holds("z"), ["c"]);

    // A set of backends that would hide objects is refused.
    let error = stores.try_open(Only("a"), &["a", "c"]).await.unwrap_err();
    assert!(matches!(error, StorageError::NotFound(_)), "{error}");
    assert_eq!(error.detail().backend.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_move_keeps_version_metadata_and_expiry() {
    let stores = Stores::new();
    let placed = stores.open(Only("a")).await;
    let metadata = sira_store::Metadata {
        content_type: Some("text/plain".to_owned()),
        ..sira_store::Metadata::default()
    };
    let options = StorageOptions {
        ttl: Some(std::time::Duration::from_secs(60)),
        metadata,
        ..StorageOptions::default()
    };
    placed.put("k", "v".into(), options).await.unwrap();
    let before = placed.head("k").await.unwrap().unwrap();
    placed.relocate("k", "c").await.unwrap();
    assert_eq!(placed.place("k").await.unwrap(), "c");
    assert_eq!(stores.holds("k"), ["c"]);
    assert_eq!(placed.head("k").await.unwrap().unwrap(), before);
    assert!(placed.relocate("k", "nowhere").await.is_err());
    assert_eq!(placed.get("k").await.unwrap().unwrap(), "v");
}

#[tokio::test]
async fn a_router_places_by_its_rules() {
    let stores = Stores::new();
    let mut router = StorageRouter::new();
    router.add_data_pattern("cache:*", DataPattern::to("b")).unwrap();
    router.add_data_pattern("data:*", DataPattern::to("c")).unwrap();
    router.set_default_backend("a");
    let placed = stores.open(router).await;
    for key in ["cache:1", "data:1", "other"] {
        placed.put(key, "v".into(), StorageOptions::default()).await.unwrap();
    }
    assert_eq!(stores.holds("cache:1"), ["b"]);
    assert_eq!(stores.holds("data:1"), ["c"]);
    assert_eq!(stores.holds("other"), ["a"]);

    // Other rules find everything, and move what is written.
    let mut router = StorageRouter::new();
    router.add_data_pattern("cache:*", DataPattern::to("c")).unwrap();
    router.set_default_backend("a");
    let placed = stores.open(router).await;
    for key in ["cache:1", "data:1", "other"] {
        assert_eq!(placed.get(key).await.unwrap().unwrap(), "v", "{key}");
        placed.put(key, "w".into(), StorageOptions::default()).await.unwrap();
    }
    assert_eq!(stores.holds("cache:1"), ["c"]);
    assert_eq!(stores.holds("data:1"), ["a"]);
    assert_eq!(placed.list_keys("", 10).await.unwrap(), ["cache:1", "data:1", "other"]);
}

/// Histories of each kind; `SIRA_HISTORIES` asks for another number, and `SIRA_HISTORY` for them to
/// begin with that seed.
fn histories(scenario: Scenario) -> u64 {
    let wanted = std::env::var("SIRA_HISTORIES").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(if scenario.mirrors || scenario.replicas.is_some() { 2_000 } else { 5_000 })
}

fn all_hold(scenario: Scenario) {
    let first = std::env::var("SIRA_HISTORY").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in first..first + histories(scenario) {
        if let Err(why) = run(scenario, seed) {
            panic!("{scenario:?}, seed {seed}: {why}");
        }
    }
}

#[test]
fn within_one_process_histories_are_linearizable() {
    all_hold(Scenario::of(1));
}

#[test]
fn crashes_between_catalog_and_data_lose_nothing() {
    all_hold(Scenario { crashes: true, ..Scenario::of(1) });
}

#[test]
fn processes_that_share_a_catalog_lose_nothing() {
    all_hold(Scenario { crashes: true, ..Scenario::of(3) });
}

#[test]
fn copies_are_never_older_than_what_was_acknowledged() {
    all_hold(Scenario { mirrors: true, outages: true, ..Scenario::of(1) });
}

#[test]
fn copies_outlast_crashes() {
    all_hold(Scenario { mirrors: true, outages: true, crashes: true, ..Scenario::of(1) });
}

#[test]
fn processes_that_share_copies_lose_nothing() {
    all_hold(Scenario { mirrors: true, outages: true, crashes: true, ..Scenario::of(3) });
}

#[test]
fn strong_replicas_are_linearizable_whatever_is_away() {
    let replicas = Some((Consistency::Strong, Acknowledge::Quorum));
    all_hold(Scenario { replicas, outages: true, ..Scenario::of(1) });
    all_hold(Scenario { replicas, outages: true, crashes: true, ..Scenario::of(1) });
}

#[test]
fn replicas_that_all_acknowledge_are_linearizable() {
    let replicas = Some((Consistency::Strong, Acknowledge::All));
    all_hold(Scenario { replicas, outages: true, crashes: true, ..Scenario::of(1) });
}

#[test]
fn processes_that_share_strong_replicas_lose_nothing() {
    let replicas = Some((Consistency::Strong, Acknowledge::Quorum));
    all_hold(Scenario { replicas, outages: true, crashes: true, ..Scenario::of(3) });
}

#[test]
fn eventual_replicas_end_up_alike() {
    let replicas = Some((Consistency::Eventual, Acknowledge::Quorum));
    all_hold(Scenario { replicas, outages: true, crashes: true, ..Scenario::of(3) });
    let replicas = Some((Consistency::Weak, Acknowledge::Quorum));
    all_hold(Scenario { replicas, outages: true, ..Scenario::of(2) });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let scenario = Scenario { mirrors: true, outages: true, crashes: true, ..Scenario::of(3) };
    for seed in 0..20 {
        assert_eq!(world::history(scenario, seed), world::history(scenario, seed));
    }
}
