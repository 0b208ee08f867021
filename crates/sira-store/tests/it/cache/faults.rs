//! A tier that is lost, in whatever way, costs time and nothing else.

use std::sync::Arc;
use std::time::Duration;

use sira_store::cache::{
    CacheBackend, CacheOptions, CachePolicy, DiskTierOptions, RemoteTierOptions,
};
use sira_store::env::SimEnv;
use sira_store::{BatchOperation, HealthStatus, MemoryBackend, StorageBackend, StorageBackendExt};

use super::probe::{Mood, Probe};
use super::{exclusive, memory, over, with_policy};

const SICK: [Mood; 5] = [Mood::Fails, Mood::Hangs, Mood::Lies, Mood::Forgets, Mood::KeepsAll];

struct World {
    env: Arc<SimEnv>,
    primary: Probe,
    remote: Probe,
    cache: CacheBackend,
}

/// A cache that keeps next to nothing in memory, so that its remote tier is asked.
fn world(policy: CachePolicy, memory_bytes: u64) -> World {
    let env = Arc::new(SimEnv::new(1, 1_000_000));
    let clocked = || Arc::new(MemoryBackend::with_env(1 << 30, env.clone()));
    let (primary, remote) = (Probe::new(clocked()), Probe::new(clocked()));
    let tier = RemoteTierOptions {
        timeout: Duration::from_millis(20),
        ..RemoteTierOptions::new(Arc::new(remote.clone()))
    };
    let options =
        CacheOptions { memory_bytes, remote: Some(tier), env: env.clone(), ..with_policy(policy) };
    let cache = over(Arc::new(primary.clone()), options);
    World { env, primary, remote, cache }
}

/// Writes and reads some keys, and checks each answer against the primary.
async fn use_it(world: &World, round: usize) {
    let World { primary, cache, .. } = world;
    for number in 0..6 {
        let key = format!("k{number}");
        match (round + number) % 4 {
            0 => drop(cache.put_bytes(&key, format!("{round}.{number}")).await.unwrap()),
            1 => drop(cache.delete(&key).await.unwrap()),
            2 => {
                let value = format!("batch {round}").into();
                let put = BatchOperation::Put { key: key.clone(), value, options: <_>::default() };
                cache.batch(vec![put]).await.unwrap();
            }
            _ => {}
        }
        for _ in 0..2 {
            assert_eq!(cache.get(&key).await.unwrap(), primary.get(&key).await.unwrap(), "{key}");
            assert_eq!(cache.head(&key).await.unwrap(), primary.head(&key).await.unwrap());
        }
    }
    // What is on its way into the tier is there.
    cache.flush().await.unwrap();
}

#[tokio::test]
async fn a_remote_tier_may_do_what_it_likes() {
    for policy in [exclusive(), CachePolicy::default()] {
        for memory_bytes in [0, 1 << 20] {
            for mood in SICK {
                let world = world(policy.clone(), memory_bytes);
                for round in 0..12 {
                    world.remote.set(if round % 4 == 1 { mood } else { Mood::Well });
                    use_it(&world, round).await;
                    world.env.advance_ms(if round % 4 == 3 { 6_000 } else { 10 });
                }
                world.remote.set(Mood::Well);
                world.env.advance_ms(60_000);
                use_it(&world, 12).await;
                let remote = world.cache.cache_stats().remote.unwrap();
                assert!(!remote.off, "{mood:?}: {remote:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_tier_that_fails_is_off_for_a_while_and_tried_again() {
    let world = world(exclusive(), 0);
    let World { env, primary, remote, cache } = &world;
    primary.put_bytes("k", "v").await.unwrap();
    remote.set(Mood::Fails);
    for _ in 0..10 {
        cache.get("k").await.unwrap();
        cache.flush().await.unwrap();
    }
    let stats = cache.cache_stats().remote.unwrap();
    assert!(stats.off && stats.errors == 3, "{stats:?}");
    assert!(matches!(cache.health_check().await, HealthStatus::Warning(_)));
    remote.set(Mood::Well);
    cache.get("k").await.unwrap();
    assert_eq!(cache.cache_stats().remote.unwrap().errors, 3);
    env.advance_ms(5_000);
    for _ in 0..2 {
        cache.get("k").await.unwrap();
        cache.flush().await.unwrap();
    }
    let stats = cache.cache_stats();
    assert!(!stats.remote.unwrap().off && stats.remote_hits == 1, "{stats:?}");
    assert_eq!(cache.health_check().await, HealthStatus::Healthy);
}

#[tokio::test]
async fn a_removal_that_was_missed_shows_nothing_old() {
    for mood in [Mood::Fails, Mood::Hangs, Mood::KeepsAll] {
        let world = world(exclusive(), 0);
        let World { primary, remote, cache, .. } = &world;
        cache.put_bytes("k", "old").await.unwrap();
        cache.flush().await.unwrap();
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("old"));
        assert_eq!((cache.cache_stats().remote_hits, primary.count(&primary.reads)), (1, 0));
        remote.set(mood);
        cache.put_for("k", "new", Duration::from_secs(60)).await.unwrap();
        remote.set(Mood::Well);
        // The old entry still lies there.
        assert!(remote.get("/k").await.unwrap().is_some(), "{mood:?}");
        assert_eq!(cache.get_string("k").await.unwrap().as_deref(), Some("new"), "{mood:?}");
    }
}

#[tokio::test]
async fn what_another_process_left_is_confirmed() {
    let world = world(exclusive(), 0);
    let World { env, primary, remote, cache } = &world;
    cache.put_bytes("k", "v").await.unwrap();
    cache.put_bytes("gone", "v").await.unwrap();
    cache.flush().await.unwrap();
    let options = CacheOptions {
        memory_bytes: 0,
        remote: Some(RemoteTierOptions::new(Arc::new(remote.clone()))),
        env: env.clone(),
        ..with_policy(exclusive())
    };
    primary.delete("gone").await.unwrap();
    let other = over(Arc::new(primary.clone()), options);
    assert_eq!(other.get_string("k").await.unwrap().as_deref(), Some("v"));
    assert_eq!(other.get("gone").await.unwrap(), None);
    let stats = other.cache_stats();
    assert_eq!((stats.validated_hits, stats.outdated, stats.loads), (1, 1, 0));
}

#[tokio::test]
async fn an_entry_of_another_key_is_not_believed() {
    let world = world(exclusive(), 0);
    let World { remote, cache, .. } = &world;
    cache.put_bytes("a", "of a").await.unwrap();
    cache.put_bytes("b", "of b").await.unwrap();
    cache.flush().await.unwrap();
    let swapped = remote.get("/a").await.unwrap().unwrap();
    remote.put_bytes("/b", swapped).await.unwrap();
    assert_eq!(cache.get_string("b").await.unwrap().as_deref(), Some("of b"));
    assert_eq!(cache.cache_stats().remote.unwrap().corrupt, 1);
}

fn on_disk(folder: &std::path::Path, primary: &Probe) -> CacheBackend {
    let disk = Some(DiskTierOptions {
        timeout: Duration::from_secs(10),
        ..DiskTierOptions::new(folder, 4 << 20)
    });
    let options = CacheOptions { memory_bytes: 0, disk, ..with_policy(exclusive()) };
    over(Arc::new(primary.clone()), options)
}

#[tokio::test]
async fn a_disk_tier_serves_over_a_restart_and_stays_within_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Probe::new(memory());
    let value = |number: usize| vec![number as u8; 50_000];
    {
        let cache = on_disk(folder.path(), &primary);
        for number in 0..200 {
            cache.put_bytes(&format!("k{number}"), value(number)).await.unwrap();
            cache.flush().await.unwrap();
        }
        for number in 190..200 {
            let key = format!("k{number}");
            assert_eq!(cache.get(&key).await.unwrap().unwrap(), value(number));
        }
        let stats = cache.cache_stats();
        assert_eq!((stats.disk_hits, stats.loads), (10, 0), "{stats:?}");
        assert_eq!(cache.get("k0").await.unwrap().unwrap(), value(0));
        assert_eq!(cache.cache_stats().loads, 1);
        cache.flush().await.unwrap();
    }
    // Another run may have written since: what lies there is confirmed first.
    primary.put_bytes("k195", "changed").await.unwrap();
    let cache = on_disk(folder.path(), &primary);
    assert_eq!(cache.get("k199").await.unwrap().unwrap(), value(199));
    assert_eq!(cache.get_string("k195").await.unwrap().as_deref(), Some("changed"));
    let stats = cache.cache_stats();
    assert_eq!((stats.validated_hits, stats.outdated, stats.loads), (1, 1, 1), "{stats:?}");
}

#[tokio::test]
async fn a_disk_tier_that_cannot_be_opened_or_is_damaged_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let primary = Probe::new(memory());
    let occupied = folder.path().join("occupied");
    std::fs::write(&occupied, b"a file where a folder should be").unwrap();
    let cache = on_disk(&occupied, &primary);
    for round in 0..5 {
        cache.put_bytes("k", format!("{round}")).await.unwrap();
        cache.flush().await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), format!("{round}"));
    }
    assert!(cache.cache_stats().disk.unwrap().off);

    let shelf = folder.path().join("shelf");
    {
        let cache = on_disk(&shelf, &primary);
        for number in 0..20 {
            cache.put_bytes(&format!("k{number}"), vec![number; 40_000]).await.unwrap();
            cache.flush().await.unwrap();
        }
    }
    for month in std::fs::read_dir(&shelf).unwrap() {
        let month = month.unwrap().path();
        let Ok(files) = std::fs::read_dir(&month) else { continue };
        for file in files.map(|file| file.unwrap().path()) {
            let mut bytes = std::fs::read(&file).unwrap();
            for at in (5_000..bytes.len()).step_by(9_000) {
                bytes[at] ^= 0xFF;
            }
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let cache = on_disk(&shelf, &primary);
    for number in 0..20 {
        let key = format!("k{number}");
        assert_eq!(cache.get(&key).await.unwrap().unwrap(), vec![number; 40_000]);
    }
}
