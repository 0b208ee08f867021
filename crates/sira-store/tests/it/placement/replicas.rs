//! Replicated namespaces: which replica takes whose place, what is made good, and what is promised.

use std::sync::Arc;
use std::time::Duration;

use sira_store::conformance::{self, ConformanceOptions};
use sira_store::driver::DriverBackend;
use sira_store::env::{Env, SimEnv, SystemEnv};
use sira_store::placement::{
    Acknowledge, Catalog, Consistency, CopyFigures, PlacedBackend, PlacementPolicy,
    PlacementRequest, RepairOptions, RepairRule, Replication,
};
use sira_store::router::Route;
use sira_store::{Condition, ListOptions, Retry, StorageBackend, StorageError, StorageOptions};

use super::flaky::{Flaky, Outage};
use crate::driver::memory::{Kind, MemoryDriver};

#[derive(Debug)]
struct Unasked;

impl PlacementPolicy for Unasked {
    fn choose(&self, _: &PlacementRequest<'_>) -> Route {
        unreachable!("replicated objects are placed by no policy")
    }
}

const NAMES: [&str; 3] = ["a", "b", "c"];

struct Stores {
    placed: Arc<PlacedBackend>,
    drivers: [MemoryDriver; 3],
    /// The backends themselves, past outages.
    inside: [Arc<dyn StorageBackend>; 3],
    outages: [Outage; 3],
    figures: Arc<CopyFigures>,
    catalog: Catalog,
    /// Stands still where nobody advances it.
    env: Arc<SimEnv>,
}

impl Stores {
    async fn open(consistency: Consistency, acknowledge: Acknowledge) -> Self {
        let env = Arc::new(SimEnv::new(1, 1_700_000_000_000));
        let drivers = NAMES.map(|_| MemoryDriver::new(Kind::default()));
        let backend = |driver: &MemoryDriver| {
            let env = Arc::clone(&env) as Arc<dyn Env>;
            Arc::new(DriverBackend::with_env(driver.clone(), env)) as Arc<dyn StorageBackend>
        };
        let inside = [backend(&drivers[0]), backend(&drivers[1]), backend(&drivers[2])];
        let catalog = Catalog::new(backend(&MemoryDriver::new(Kind::default()))).unwrap();
        let outages = NAMES.map(|_| Outage::default());
        let figures = Arc::new(CopyFigures::default());
        let replication =
            Replication { replicas: NAMES.map(str::to_owned).to_vec(), consistency, acknowledge };
        let env_of_all = Arc::clone(&env);
        Self {
            placed: open(&catalog, &inside, &outages, &figures, &env, Some(replication)).await,
            drivers,
            inside,
            outages,
            figures,
            catalog,
            env: env_of_all,
        }
    }

    async fn strong() -> Self {
        Self::open(Consistency::Strong, Acknowledge::Quorum).await
    }

    /// Another process, with these replicas or none.
    async fn reopened(&self, replicas: &[&str]) -> Arc<PlacedBackend> {
        let replication = (!replicas.is_empty()).then(|| Replication {
            replicas: replicas.iter().map(|name| (*name).to_owned()).collect(),
            ..Replication::default()
        });
        let (catalog, figures) = (&self.catalog, &self.figures);
        open(catalog, &self.inside, &self.outages, figures, &self.env, replication).await
    }

    async fn put(&self, key: &str, value: &'static str) {
        self.try_put(key, value).await.unwrap();
    }

    async fn try_put(&self, key: &str, value: &'static str) -> Result<(), StorageError> {
        self.env.advance_ms(1);
        self.placed.put(key, value.into(), StorageOptions::default()).await.map(|_| ())
    }

    async fn get(&self, key: &str) -> Result<Option<String>, StorageError> {
        let value = self.placed.get(key).await?;
        Ok(value.map(|value| String::from_utf8(value.to_vec()).unwrap()))
    }

    /// What each backend holds under a key.
    async fn holds(&self, key: &str) -> [Option<String>; 3] {
        let mut held = [None, None, None];
        for (held, backend) in held.iter_mut().zip(&self.inside) {
            let value = backend.get(key).await.unwrap();
            *held = value.map(|value| String::from_utf8(value.to_vec()).unwrap());
        }
        held
    }

    async fn all_hold(&self, key: &str, value: &str) {
        assert_eq!(self.holds(key).await, [(); 3].map(|()| Some(value.to_owned())), "{key}");
    }

    fn away(&self, name: &str, away: bool) {
        self.outages[at(name)].set(away);
    }

    async fn keys(&self) -> Vec<String> {
        self.placed.list_keys("", 100).await.unwrap()
    }
}

fn at(name: &str) -> usize {
    NAMES.iter().position(|other| *other == name).unwrap()
}

async fn open(
    catalog: &Catalog,
    inside: &[Arc<dyn StorageBackend>; 3],
    outages: &[Outage; 3],
    figures: &Arc<CopyFigures>,
    env: &Arc<SimEnv>,
    replication: Option<Replication>,
) -> Arc<PlacedBackend> {
    let backends = NAMES.iter().zip(inside).zip(outages).map(|((name, inner), outage)| {
        let flaky = Flaky { inner: Arc::clone(inner), outage: outage.clone() };
        ((*name).to_owned(), Arc::new(flaky) as Arc<dyn StorageBackend>)
    });
    let env = Arc::clone(env) as Arc<dyn Env>;
    let placed = PlacedBackend::open(catalog, "n", "a", backends.collect(), Arc::new(Unasked), env);
    let placed = placed.await.unwrap().with_figures(Arc::clone(figures));
    Arc::new(match replication {
        Some(replication) => placed.replicated(replication).await.unwrap(),
        None => placed.unreplicated().await.unwrap(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_conform() {
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        let backend = || {
            let driver = MemoryDriver::new(Kind::default());
            Arc::new(DriverBackend::new(driver)) as Arc<dyn StorageBackend>
        };
        let backends = NAMES.map(|name| (name.to_owned(), backend())).into();
        let (catalog, env) = (Catalog::new(backend()).unwrap(), Arc::new(SystemEnv));
        let placed = PlacedBackend::open(&catalog, "n", "a", backends, Arc::new(Unasked), env);
        let replicas = NAMES.map(str::to_owned).to_vec();
        let replication = Replication { replicas, consistency, ..Replication::default() };
        let placed = Arc::new(placed.await.unwrap().replicated(replication).await.unwrap());
        placed.keep_mended();
        let report = conformance::run(placed, ConformanceOptions::default()).await;
        let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
        assert!(report.passed.len() > 50, "{report}");
    }
}

#[tokio::test]
async fn another_replica_takes_the_place_of_the_first_and_gives_it_back() {
    let stores = Stores::strong().await;
    stores.put("k", "1").await;
    stores.all_hold("k", "1").await;
    assert!(stores.placed.record().complete);

    stores.away("a", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    stores.put("k", "2").await;
    stores.put("new", "2").await;
    assert_eq!(stores.placed.place("k").await.unwrap(), "b");
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("2"));
    assert_eq!(stores.keys().await, ["k", "new"]);
    // A condition is judged where the object lies now.
    let head = stores.placed.head("k").await.unwrap().unwrap();
    let matching = |version| StorageOptions {
        condition: Condition::IfMatch(version),
        ..StorageOptions::default()
    };
    stores.placed.put("k", "3".into(), matching(head.version)).await.unwrap();
    let refused = stores.placed.put("k", "4".into(), matching(head.version)).await.unwrap_err();
    assert!(matches!(refused, StorageError::PreconditionFailed(_)), "{refused}");
    let once = StorageOptions { condition: Condition::IfAbsent, ..StorageOptions::default() };
    stores.placed.put("once", "1".into(), once.clone()).await.unwrap();
    stores.placed.put("once", "2".into(), once).await.unwrap_err();
    assert!(stores.placed.delete("once").await.unwrap());
    assert!(!stores.placed.delete("once").await.unwrap());
    assert_eq!(stores.get("once").await.unwrap(), None);
    assert_eq!(stores.figures.counts().failed_over, 3);

    // The first one is back, behind, and is read again when it is level.
    stores.away("a", false);
    assert_eq!(stores.holds("k").await[0].as_deref(), Some("1"));
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("3"));
    for key in ["k", "new", "once"] {
        assert!(stores.placed.mend(key).await.unwrap(), "{key}");
        assert_eq!(stores.placed.place(key).await.unwrap(), "a");
    }
    stores.all_hold("k", "3").await;
    stores.all_hold("new", "2").await;
    assert_eq!(stores.holds("once").await, [None, None, None]);
    assert_eq!(stores.figures.counts().returned, 3);
    stores.away("b", true);
    stores.away("c", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("3"));
}

#[tokio::test]
async fn fewer_than_are_needed_take_no_write() {
    let stores = Stores::strong().await;
    stores.put("k", "1").await;
    stores.away("a", true);
    stores.away("b", true);
    let error = stores.try_put("k", "2").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    assert_eq!(error.retry(), Retry::Temporary);
    assert!(
        error.to_string().contains("1 of 3 replicas took the write and 2 are needed"),
        "{error}"
    );
    // What one of them took is nowhere seen, now or later.
    assert_eq!(stores.holds("k").await[2].as_deref(), Some("2"));
    stores.away("b", false);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    stores.away("a", false);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    assert!(stores.placed.mend("k").await.unwrap());
    stores.all_hold("k", "1").await;

    // A removal that fewer take has not happened either.
    stores.away("a", true);
    stores.away("b", true);
    let error = stores.placed.delete("k").await.unwrap_err();
    assert_eq!(error.retry(), Retry::Temporary, "{error}");
    let error = stores.placed.list_keys("", 10).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    stores.away("a", false);
    stores.away("b", false);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    assert!(stores.placed.mend("k").await.unwrap());
    stores.all_hold("k", "1").await;
}

#[tokio::test]
async fn where_all_must_acknowledge_one_that_is_away_stops_writes_and_no_reads() {
    let stores = Stores::open(Consistency::Strong, Acknowledge::All).await;
    stores.put("k", "1").await;
    stores.away("c", true);
    let error = stores.try_put("k", "2").await.unwrap_err();
    assert!(error.to_string().contains("3 are needed"), "{error}");
    // The first has it, so whether it counts is not known until the others have it, too.
    assert_eq!(error.retry(), Retry::Ambiguous);
    stores.away("a", true);
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("2"));
    stores.away("a", false);
    // Nor is it taken for acknowledged by who repeats it.
    let version = Some(stores.placed.head("k").await.unwrap().unwrap().version);
    let again = || StorageOptions { version, ..StorageOptions::default() };
    let error = stores.placed.put("k", "2".into(), again()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    stores.away("c", false);
    assert!(stores.placed.mend("k").await.unwrap());
    stores.all_hold("k", "2").await;
    let error = stores.placed.put("k", "2".into(), again()).await.unwrap_err();
    assert!(matches!(error, StorageError::Conflict(_)), "{error}");
    let error = stores.placed.relocate("k", "b").await.unwrap_err();
    assert!(matches!(error, StorageError::Unsupported(_)), "{error}");
    stores.placed.relocate("k", "a").await.unwrap();
}

#[tokio::test]
async fn a_replica_that_has_lost_what_it_acknowledged_is_found_out() {
    let stores = Stores::strong().await;
    stores.put("k", "1").await;
    let older = stores.inside[0].read("k", Default::default()).await.unwrap().unwrap();
    stores.put("k", "2").await;
    // Emptied, and then put back to what it was before.
    stores.inside[0].delete("k").await.unwrap();
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("2"));
    assert_eq!(stores.keys().await, ["k"]);
    let options = StorageOptions { version: Some(older.head.version), ..StorageOptions::default() };
    stores.inside[0].put("k", older.value, options).await.unwrap();
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("2"));
    let condition = Condition::IfMatch(older.head.version);
    let stale = StorageOptions { condition, ..StorageOptions::default() };
    let refused = stores.placed.put("k", "3".into(), stale).await.unwrap_err();
    assert!(matches!(refused, StorageError::PreconditionFailed(_)), "{refused}");
    // The look at it noted it.
    assert!(stores.placed.mend("k").await.unwrap());
    stores.all_hold("k", "2").await;
    assert_eq!(stores.placed.place("k").await.unwrap(), "a");

    // What has expired is not lost.
    let ttl = Some(Duration::from_secs(5));
    let options = StorageOptions { ttl, ..StorageOptions::default() };
    stores.placed.put("short", "1".into(), options).await.unwrap();
    stores.env.advance_ms(6_000);
    assert_eq!(stores.get("short").await.unwrap(), None);
    stores.away("a", true);
    assert_eq!(stores.get("short").await.unwrap(), None);
}

#[tokio::test]
async fn damage_is_made_good_from_another_replica() {
    let stores = Stores::strong().await;
    for (damaged, value) in [(0, "first of all"), (2, "last of all")] {
        stores.put("k", value).await;
        stores.drivers[damaged].flip_bit(value.as_bytes());
        stores.inside[damaged].get("k").await.unwrap_err();
        assert_eq!(stores.get("k").await.unwrap().as_deref(), Some(value));
        let deep = RepairOptions { deep: true, ..RepairOptions::default() };
        let report = stores.placed.repair(&deep).await.unwrap();
        assert_eq!((report.objects, report.repaired, report.damaged), (1, 1, 1), "{report:?}");
        stores.all_hold("k", value).await;
        let report = stores.placed.repair(&deep).await.unwrap();
        assert_eq!((report.objects, report.repaired, report.damaged), (1, 0, 0), "{report:?}");
    }
    assert_eq!(stores.placed.place("k").await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn eventual_writes_are_taken_by_one_and_follow() {
    let stores = Stores::open(Consistency::Eventual, Acknowledge::Quorum).await;
    stores.outages[1].hold(true);
    stores.outages[2].hold(true);
    for key in ["k", "l"] {
        stores.put(key, "1").await;
    }
    let behind = stores.placed.behind();
    assert_eq!((behind.objects, behind.more), (2, false));
    assert_eq!(stores.holds("k").await, [Some("1".to_owned()), None, None]);
    stores.outages.iter().for_each(|outage| outage.hold(false));
    stores.placed.keep_mended();
    tokio::time::sleep(Duration::from_secs(1)).await;
    stores.all_hold("k", "1").await;
    assert_eq!(stores.placed.behind().objects, 0);

    // The first is away before the others have its last write: they answer with what they have.
    stores.away("b", true);
    stores.away("c", true);
    stores.put("k", "2").await;
    for name in NAMES {
        stores.away(name, name == "a");
    }
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    assert_eq!(stores.figures.counts().served_stale, 1);
    // A condition is not judged by what may be old.
    let present = StorageOptions { condition: Condition::IfPresent, ..StorageOptions::default() };
    let error = stores.placed.put("k", "x".into(), present).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable(_)), "{error}");
    stores.put("k", "3").await;
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("3"));
    stores.env.advance_ms(7_000);
    assert!(stores.placed.behind().lag >= Duration::from_secs(7));
    stores.away("a", false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    stores.all_hold("k", "3").await;
    assert_eq!(stores.placed.place("k").await.unwrap(), "a");
    assert_eq!(stores.placed.behind(), Default::default());
}

#[tokio::test]
async fn a_replica_whose_folder_is_gone_is_away() {
    for consistency in [Consistency::Strong, Consistency::Eventual] {
        let stores = Stores::open(consistency, Acknowledge::Quorum).await;
        stores.put("k", "1").await;
        assert!(stores.placed.mend("k").await.unwrap());
        stores.outages[0].set_gone(true);
        assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
        for key in ["k", "new"] {
            stores.put(key, "2").await;
            assert_eq!(stores.get(key).await.unwrap().as_deref(), Some("2"));
            assert_eq!(stores.placed.place(key).await.unwrap(), "b");
        }
        assert!(stores.placed.delete("new").await.unwrap());
        assert_eq!(stores.keys().await, ["k"]);
        stores.outages[0].set_gone(false);
        assert!(stores.placed.mend("k").await.unwrap());
        stores.all_hold("k", "2").await;
    }
}

#[tokio::test]
async fn weak_reads_ask_any() {
    let stores = Stores::open(Consistency::Weak, Acknowledge::Quorum).await;
    stores.put("k", "1").await;
    assert!(stores.placed.mend("k").await.unwrap());
    stores.put("k", "2").await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(stores.get("k").await.unwrap().unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["1", "1", "2"]);
    for name in ["a", "b"] {
        stores.away(name, true);
    }
    assert_eq!(stores.get("k").await.unwrap().as_deref(), Some("1"));
    stores.away("c", true);
    stores.get("k").await.unwrap_err();
}

#[tokio::test]
async fn a_repair_makes_replicas_of_what_was_there_before() {
    let stores = Stores::strong().await;
    let alone = stores.reopened(&[]).await;
    assert!(!alone.record().complete);
    for (at, key) in [(0, "old"), (0, "other"), (1, "stray"), (2, "stray")] {
        stores.env.advance_ms(1);
        let value = if at == 2 { "newer" } else { "v" };
        stores.inside[at].put(key, value.into(), StorageOptions::default()).await.unwrap();
    }
    let placed = stores.reopened(&NAMES).await;
    assert!(!placed.record().complete);
    assert_eq!(placed.get("old").await.unwrap().unwrap(), "v");
    stores.away("a", true);
    placed.list_keys("", 10).await.unwrap_err();
    stores.away("a", false);
    // A repair that leaves keys out makes no promise about them.
    let start_after = Some("other".to_owned());
    let rest = RepairOptions { start_after: Some("~".to_owned()), ..RepairOptions::default() };
    let report = placed.repair_all(&rest).await.unwrap();
    assert_eq!((report.objects, report.behind), (0, 0), "{report:?}");
    assert!(report.unsound && !placed.record().complete);
    let rest = RepairOptions { start_after, ..RepairOptions::default() };
    assert_eq!(placed.repair_all(&rest).await.unwrap().strays, 1);
    let one = RepairOptions { limit: 1, ..RepairOptions::default() };
    let report = placed.repair_all(&one).await.unwrap();
    assert_eq!((report.objects, report.repaired, report.strays, report.behind), (3, 2, 1, 0));
    assert!(report.unsound && !placed.record().complete);
    for key in ["old", "other"] {
        stores.all_hold(key, "v").await;
    }
    assert_eq!(placed.get("stray").await.unwrap(), None);
    let newest = RepairOptions { rule: RepairRule::Newest, ..RepairOptions::default() };
    let report = placed.repair_all(&newest).await.unwrap();
    assert_eq!((report.objects, report.repaired, report.strays), (3, 1, 0), "{report:?}");
    assert!(!report.unsound && placed.record().complete);
    stores.all_hold("stray", "newer").await;
    // Now everything is known, and any replica may be away.
    for name in NAMES {
        stores.away(name, true);
        assert_eq!(placed.list_keys("", 10).await.unwrap(), ["old", "other", "stray"]);
        stores.away(name, false);
    }
}

#[tokio::test]
async fn a_repair_finds_what_changed_behind_its_back() {
    let stores = Stores::strong().await;
    for key in ["a/1", "a/2", "b"] {
        stores.put(key, "v").await;
    }
    stores.inside[1].delete("a/1").await.unwrap();
    stores.inside[2].put("a/2", "foreign".into(), StorageOptions::default()).await.unwrap();
    stores.inside[0].delete("b").await.unwrap();
    let report = stores.placed.repair(&RepairOptions::default()).await.unwrap();
    assert_eq!((report.objects, report.repaired, report.behind), (3, 3, 0), "{report:?}");
    for key in ["a/1", "a/2", "b"] {
        stores.all_hold(key, "v").await;
    }
    // One that is away is left for later, and said.
    stores.away("c", true);
    stores.put("b", "w").await;
    let report = stores.placed.repair(&RepairOptions::default()).await.unwrap();
    assert_eq!((report.objects, report.behind), (3, 1), "{report:?}");
    assert!(report.failures["b"].contains("away"), "{report:?}");
    assert!(stores.placed.delete("a/1").await.unwrap());
    stores.away("c", false);
    // What a replica was not told to remove is no key, nor does it make a prefix.
    assert!(stores.placed.delete("a/2").await.unwrap());
    assert_eq!(stores.inside[2].list_keys("", 10).await.unwrap(), ["a/1", "b"]);
    let options = ListOptions { delimiter: Some("/".to_owned()), ..ListOptions::default() };
    let page = stores.placed.list(options).await.unwrap();
    assert!(page.common_prefixes.is_empty(), "{page:?}");
    let report = stores.placed.repair(&RepairOptions::default()).await.unwrap();
    assert_eq!((report.behind, report.is_level()), (0, true), "{report:?}");
    stores.all_hold("b", "w").await;
    assert_eq!(stores.holds("a/1").await, [None, None, None]);
}

#[tokio::test]
async fn replicas_may_change() {
    let stores = Stores::strong().await;
    stores.put("k", "1").await;
    let two = stores.reopened(&["b", "c"]).await;
    assert_eq!(two.get("k").await.unwrap().unwrap(), "1");
    let report = two.repair_all(&RepairOptions::default()).await.unwrap();
    assert_eq!((report.repaired, report.behind), (1, 0), "{report:?}");
    assert_eq!(stores.holds("k").await, [None, Some("1".to_owned()), Some("1".to_owned())]);
    two.put("l", "2".into(), StorageOptions::default()).await.unwrap();
    assert_eq!(two.place("l").await.unwrap(), "b");
    let again = stores.reopened(&NAMES).await;
    let report = again.repair_all(&RepairOptions::default()).await.unwrap();
    assert_eq!((report.repaired, report.behind), (2, 0), "{report:?}");
    stores.all_hold("k", "1").await;
    stores.all_hold("l", "2").await;
    assert_eq!(again.place("l").await.unwrap(), "a");
    // Without replication one is left.
    let alone = stores.reopened(&[]).await;
    assert_eq!(alone.get("k").await.unwrap().unwrap(), "1");
    assert!(matches!(
        alone.repair(&RepairOptions::default()).await,
        Err(StorageError::Unsupported(_))
    ));
}
