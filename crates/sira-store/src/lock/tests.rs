use super::*;
use crate::env::{SeededRandom, SimEnv};
use crate::memory::MemoryBackend;

const AT_ONCE: LockOptions = LockOptions { wait: Duration::ZERO, lease: None };

fn name(key: &str) -> LockName {
    LockName::new("ns", key)
}

fn simulated() -> (Arc<SimEnv>, LockManager) {
    let env = Arc::new(SimEnv::new(1, 1_000_000));
    (Arc::clone(&env), LockManager::with_env(env))
}

fn leased(ms: u64) -> LockOptions {
    LockOptions { lease: Some(Duration::from_millis(ms)), ..AT_ONCE }
}

#[tokio::test]
async fn who_may_hold_what_at_once() {
    use LockMode::{Exclusive, Shared};
    for (held, wanted, may) in [
        (Shared, Shared, true),
        (Shared, Exclusive, false),
        (Exclusive, Shared, false),
        (Exclusive, Exclusive, false),
    ] {
        let (_, locks) = simulated();
        let (one, other) = (locks.owner("one"), locks.owner("other"));
        locks.acquire(&one, &name("k"), held, AT_ONCE).await.unwrap();
        let got = locks.acquire(&other, &name("k"), wanted, AT_ONCE).await;
        assert_eq!(got.is_ok(), may, "{held:?} {wanted:?}");
        if let Err(error) = got {
            assert!(matches!(error, StorageError::Locked(_)) && error.to_string().contains("one"));
            assert_eq!(error.retry(), crate::Retry::Temporary);
        }
        // Another key, and another namespace, are others.
        locks.acquire(&other, &name("l"), Exclusive, AT_ONCE).await.unwrap();
        locks.acquire(&other, &LockName::new("b", "k"), Exclusive, AT_ONCE).await.unwrap();
    }
}

#[tokio::test]
async fn who_holds_a_lock_gets_it_again() {
    let (_, locks) = simulated();
    let (one, other) = (locks.owner("one"), locks.owner("other"));
    let key = name("k");
    let token = locks.acquire(&one, &key, LockMode::Shared, AT_ONCE).await.unwrap();
    assert_eq!(locks.acquire(&one, &key, LockMode::Shared, AT_ONCE).await.unwrap(), token);
    let upgraded = locks.acquire(&one, &key, LockMode::Exclusive, AT_ONCE).await.unwrap();
    assert!(upgraded > token);
    assert_eq!(locks.acquire(&one, &key, LockMode::Shared, AT_ONCE).await.unwrap(), upgraded);
    assert!(locks.acquire(&other, &key, LockMode::Shared, AT_ONCE).await.is_err());
    assert!(!locks.release(&other, &key));
    assert!(locks.release(&one, &key));
    assert!(!locks.release(&one, &key));
    assert!(locks.acquire(&other, &key, LockMode::Exclusive, AT_ONCE).await.unwrap() > upgraded);
    locks.release_all(&other);
    assert_eq!(locks.locks(), []);
    assert_eq!((locks.figures().granted, locks.figures().timeouts), (3, 1));
}

#[tokio::test]
async fn a_lease_ends_unless_it_is_renewed() {
    let (env, locks) = simulated();
    let (one, other) = (locks.owner("one"), locks.owner("other"));
    let key = name("k");
    let token = locks.acquire(&one, &key, LockMode::Exclusive, leased(100)).await.unwrap();
    env.advance_ms(60);
    assert_eq!(locks.renew(&one, &key, Duration::from_millis(100)).unwrap(), token);
    env.advance_ms(99);
    assert!(locks.acquire(&other, &key, LockMode::Exclusive, AT_ONCE).await.is_err());
    let status = &locks.locks()[0];
    assert_eq!((status.since_ms, status.lease_left_ms), (159, Some(1)));
    env.advance_ms(1);
    let newer = locks.acquire(&other, &key, LockMode::Exclusive, AT_ONCE).await.unwrap();
    assert!(newer > token);
    assert!(matches!(
        locks.renew(&one, &key, Duration::from_millis(100)),
        Err(StorageError::NotFound(_))
    ));
    assert!(!locks.release(&one, &key), "it is the other's now");
    assert_eq!(locks.figures().expired, 1);
}

#[tokio::test]
async fn turns_are_taken_in_order() {
    let locks = LockManager::default();
    let key = name("k");
    let first = locks.owner("first");
    locks.acquire(&first, &key, LockMode::Shared, AT_ONCE).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (number, mode) in
        [LockMode::Exclusive, LockMode::Shared, LockMode::Shared, LockMode::Exclusive]
            .into_iter()
            .enumerate()
    {
        let (all, key, order) = (locks.clone(), key.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let owner = all.owner(&number.to_string());
            all.acquire(&owner, &key, mode, LockOptions::default()).await.unwrap();
            order.lock().push(number);
            tokio::task::yield_now().await;
            all.release(&owner, &key);
        }));
        while locks.figures().waiting < number as u64 + 1 {
            tokio::task::yield_now().await;
        }
    }
    // A reader that comes later does not go before the writer that waits.
    let late = locks.owner("late");
    assert!(locks.acquire(&late, &key, LockMode::Shared, AT_ONCE).await.is_err());
    let waiting: Vec<_> = locks.locks().into_iter().map(|lock| lock.owner).collect();
    assert_eq!(waiting, ["first", "0", "1", "2", "3"]);
    locks.release(&first, &key);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.lock(), [0, 1, 2, 3]);
    assert_eq!(locks.locks(), []);
}

#[tokio::test]
async fn the_youngest_in_a_circle_gives_way() {
    let locks = LockManager::default();
    let owners: Vec<_> = (0..3).map(|number| locks.owner(&number.to_string())).collect();
    let names: Vec<_> = (0..3).map(|number| name(&number.to_string())).collect();
    for (owner, name) in owners.iter().zip(&names) {
        locks.acquire(owner, name, LockMode::Exclusive, AT_ONCE).await.unwrap();
    }
    let wait = |at: usize| {
        let (locks, owner, name) = (locks.clone(), owners[at].clone(), names[(at + 1) % 3].clone());
        tokio::spawn(async move {
            let got = locks.acquire(&owner, &name, LockMode::Exclusive, LockOptions::default());
            let got = got.await;
            locks.release_all(&owner);
            got
        })
    };
    // The youngest waits first, and is told when the circle closes.
    let mut tasks = Vec::new();
    for (waiting, at) in [2, 0, 1].into_iter().enumerate() {
        tasks.push((at, wait(at)));
        while at != 1 && locks.figures().waiting < waiting as u64 + 1 {
            tokio::task::yield_now().await;
        }
    }
    for (at, task) in tasks {
        let got = task.await.unwrap();
        assert_eq!(got.is_ok(), at != 2, "{at}: {got:?}");
        if let Err(error) = got {
            assert!(matches!(error, StorageError::Conflict(_)), "{error}");
        }
    }
    assert_eq!((locks.figures().deadlocks, locks.figures().held), (1, 0));
}

#[tokio::test]
async fn two_that_want_more_of_the_same_lock_are_a_circle() {
    let locks = LockManager::default();
    let (older, younger) = (locks.owner("older"), locks.owner("younger"));
    let key = name("k");
    for owner in [&older, &younger] {
        locks.acquire(owner, &key, LockMode::Shared, AT_ONCE).await.unwrap();
    }
    let wait = |owner: &LockOwner| {
        let (locks, owner, key) = (locks.clone(), owner.clone(), key.clone());
        tokio::spawn(async move {
            let got = locks.acquire(&owner, &key, LockMode::Exclusive, LockOptions::default());
            let got = got.await.is_ok();
            locks.release_all(&owner);
            got
        })
    };
    let first = wait(&older);
    while locks.figures().waiting < 1 {
        tokio::task::yield_now().await;
    }
    let second = wait(&younger);
    assert!(!second.await.unwrap());
    assert!(first.await.unwrap());
}

#[tokio::test]
async fn a_wait_ends_in_time_with_a_lease_or_with_the_caller() {
    let locks = LockManager::default();
    let (one, other) = (locks.owner("one"), locks.owner("other"));
    let key = name("k");
    let waits = |ms| LockOptions { wait: Duration::from_millis(ms), lease: None };
    locks.acquire(&one, &key, LockMode::Exclusive, AT_ONCE).await.unwrap();
    let error = locks.acquire(&other, &key, LockMode::Shared, waits(10)).await.unwrap_err();
    assert!(matches!(error, StorageError::Locked(_)), "{error}");
    assert_eq!(locks.figures().waiting, 0);
    let dropped = tokio::time::timeout(
        Duration::from_millis(10),
        locks.acquire(&other, &key, LockMode::Exclusive, waits(60_000)),
    );
    assert!(dropped.await.is_err());
    assert_eq!(locks.figures().waiting, 0);
    locks.release(&one, &key);

    locks.acquire(&one, &key, LockMode::Exclusive, leased(20)).await.unwrap();
    locks.acquire(&other, &key, LockMode::Exclusive, waits(60_000)).await.unwrap();
    assert_eq!(locks.figures().expired, 1);
}

#[test]
fn whatever_is_asked_the_rules_hold() {
    for seed in 0..200 {
        let env = SimEnv::new(seed, 1_000);
        let fence = Fence::of_clock(&env);
        let mut random = SeededRandom::new(seed);
        let mut table = Table::default();
        let owners: Vec<_> =
            (1..8).map(|age| LockOwner { age, label: age.to_string().into() }).collect();
        let mut waiting = Vec::new();
        let mut newest = 0;
        for _ in 0..300 {
            let now = env.monotonic();
            let owner = &owners[random.below(owners.len() as u64) as usize];
            let key = name(&random.below(4).to_string());
            match random.below(10) {
                0..5 => {
                    let mode = match random.below(2) {
                        0 => LockMode::Shared,
                        _ => LockMode::Exclusive,
                    };
                    let lease = (random.below(3) == 0).then(|| Duration::from_millis(20));
                    let request =
                        Request { owner: owner.clone(), mode, lease, waits: random.below(4) > 0 };
                    match table.request(&key, request, now, &fence) {
                        Requested::Granted(token) => newest = newest.max(token),
                        Requested::Waits(id, answer) => waiting.push((key, id, answer)),
                        Requested::Refused(holders) => assert!(!holders.is_empty()),
                    }
                }
                5 if !waiting.is_empty() => {
                    let at = random.below(waiting.len() as u64) as usize;
                    let (key, id, _) = waiting.swap_remove(at);
                    table.cancel(&key, id, now, &fence);
                }
                6 => table.release_all(owner, now, &fence),
                7 => env.advance_ms(random.below(15)),
                _ => drop(table.release(owner, &key, now, &fence)),
            }
            table.check_rules(&owners);
        }
        for owner in &owners {
            table.release_all(owner, env.monotonic(), &fence);
        }
        for (key, id, _) in waiting {
            table.cancel(&key, id, env.monotonic(), &fence);
        }
        owners.iter().for_each(|owner| table.release_all(owner, env.monotonic(), &fence));
        assert_eq!(table.list(env.monotonic(), &fence), []);
        table.check_rules(&owners);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_in_anothers_way_and_all_get_through() {
    const LOCKS: u64 = 4;
    let locks = LockManager::default();
    let inside: Arc<Vec<AtomicU64>> = Arc::new((0..LOCKS).map(|_| AtomicU64::new(0)).collect());
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (locks, inside) = (locks.clone(), Arc::clone(&inside));
            tokio::spawn(async move {
                let mut random = SeededRandom::new(number);
                let mut done = 0;
                let mut owner = locks.owner(&number.to_string());
                while done < 50 {
                    let mut held = Vec::new();
                    let wanted = [random.below(LOCKS), random.below(LOCKS)];
                    for at in wanted {
                        let key = name(&at.to_string());
                        let options = LockOptions::default();
                        match locks.acquire(&owner, &key, LockMode::Exclusive, options).await {
                            Ok(_) => held.push(at),
                            Err(StorageError::Conflict(_)) => break,
                            Err(error) => panic!("{error}"),
                        }
                        tokio::task::yield_now().await;
                    }
                    held.sort_unstable();
                    held.dedup();
                    for at in &held {
                        assert_eq!(inside[*at as usize].fetch_add(1, Ordering::SeqCst), 0);
                    }
                    tokio::task::yield_now().await;
                    for at in &held {
                        inside[*at as usize].fetch_sub(1, Ordering::SeqCst);
                    }
                    locks.release_all(&owner);
                    if wanted.iter().all(|at| held.contains(at)) {
                        done += 1;
                        owner = locks.owner(&number.to_string());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(locks.locks(), []);
    assert!(locks.figures().deadlocks > 0);
}

#[tokio::test]
async fn tokens_grow_over_starts_whatever_the_clock_does() {
    let backend = Arc::new(MemoryBackend::new(1 << 20));
    let mut newest = 0;
    for now_ms in [1_000_000, 2_000_000, 5] {
        let env = Arc::new(SimEnv::new(1, now_ms));
        let locks = LockManager::durable(backend.clone(), env);
        let owner = locks.owner("one");
        for key in ["a", "b", "c"] {
            let token = locks.acquire(&owner, &name(key), LockMode::Shared, AT_ONCE).await.unwrap();
            assert!(token > newest, "{token} after {newest}");
            newest = token;
        }
        if now_ms == 1_000_000 {
            let kept = backend.get("tokens").await.unwrap();
            assert_eq!(kept.as_deref(), Some(&b"65552777216"[..]), "as the format says");
        }
    }
    // Reservations go on before they are used up.
    let fence = Fence::kept_in(backend.clone(), Arc::new(SimEnv::new(1, 0)));
    fence.ensure().await.unwrap();
    let reserved = |text: Option<bytes::Bytes>| -> u64 {
        std::str::from_utf8(&text.unwrap()).unwrap().parse().unwrap()
    };
    let before = reserved(backend.get("tokens").await.unwrap());
    for _ in 0..(1 << 23) + 1 {
        fence.next();
    }
    assert_eq!(reserved(backend.get("tokens").await.unwrap()), before);
    fence.ensure().await.unwrap();
    assert_eq!(reserved(backend.get("tokens").await.unwrap()), before + (1 << 24));
    assert!(fence.next() < before);

    backend.put("tokens", "many".into(), Default::default()).await.unwrap();
    let locks = LockManager::durable(backend, Arc::new(SystemEnv));
    let owner = locks.owner("one");
    let error = locks.acquire(&owner, &name("a"), LockMode::Shared, AT_ONCE).await.unwrap_err();
    assert!(matches!(error, StorageError::Corrupt(_)), "{error}");
}
