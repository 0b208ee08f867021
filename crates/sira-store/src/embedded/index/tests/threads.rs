//! Readers, writers, visitors and savers at once.

use std::sync::atomic::{AtomicBool, AtomicU32};
use std::thread;

use super::*;

const THREADS: u32 = 3;

/// Keys that stay: even numbers. Odd ones come and go.
fn key(number: u32) -> Vec<u8> {
    let mut key = number.wrapping_mul(0x9E37_79B1).to_be_bytes().to_vec();
    // Some are long, so that splits and merges are frequent.
    key.resize(if number % 5 < 2 { 400 } else { 12 }, number as u8);
    key
}

/// The number in a key.
fn number(key: &[u8]) -> u32 {
    let head = u32::from_be_bytes(*key.first_chunk().unwrap());
    head.wrapping_mul(INVERSE)
}

/// `0x9E37_79B1 * INVERSE == 1` in 32 bits.
const INVERSE: u32 = {
    let mut inverse: u32 = 1;
    let mut round = 0;
    while round < 5 {
        inverse = inverse.wrapping_mul(2_u32.wrapping_sub(0x9E37_79B1_u32.wrapping_mul(inverse)));
        round += 1;
    }
    inverse
};

fn check_visit(keys: u32, visit: impl FnOnce(&mut dyn FnMut(&[u8], Location))) {
    let mut last: Option<Vec<u8>> = None;
    let mut stayed = 0;
    visit(&mut |found, at| {
        assert!(last.as_deref() < Some(found), "keys in order, each once");
        last = Some(found.to_vec());
        let number = number(found);
        assert_eq!(found, key(number));
        assert_eq!(at.segment, number);
        assert_eq!(at.offset, number.wrapping_mul(3));
        stayed += u32::from(number.is_multiple_of(2));
    });
    assert_eq!(stayed, keys / 2, "every key that stays was visited");
}

#[test]
fn nothing_is_lost_while_all_kinds_of_threads_run() {
    let keys: u32 = 6_000;
    let rounds = 12;
    let index = Index::new();
    for number in (0..keys).step_by(2) {
        index.insert(&key(number), location(number)).unwrap();
    }
    let running = AtomicU32::new(THREADS);
    thread::scope(|scope| {
        for writer in 0..THREADS {
            let (index, running) = (&index, &running);
            scope.spawn(move || {
                let mut random = SeededRandom::new(u64::from(writer));
                for round in 0..rounds {
                    // Each writer has its own odd keys, and so knows what is there.
                    let mine = |n: &u32| n % 2 == 1 && n / 2 % THREADS == writer;
                    for number in (0..keys).filter(mine) {
                        assert_eq!(index.insert(&key(number), location(number)), Ok(None));
                    }
                    for number in (0..keys).filter(mine) {
                        assert_eq!(index.get(&key(number)), Some(location(number)));
                        let stays = random.below(u64::from(keys / 2)) as u32 * 2;
                        assert!(index.replace(&key(stays), location(stays), location(stays)));
                    }
                    for number in (0..keys).filter(mine) {
                        if round % 2 == 0 {
                            assert_eq!(index.remove(&key(number)), Some(location(number)));
                        } else {
                            assert!(index.remove_if(&key(number), location(number)));
                        }
                    }
                }
                running.fetch_sub(1, Ordering::Release);
            });
        }
        let (index, running) = (&index, &running);
        scope.spawn(move || {
            let mut random = SeededRandom::new(99);
            while running.load(Ordering::Acquire) > 0 {
                let number = random.below(u64::from(keys)) as u32;
                let found = index.get(&key(number));
                assert!(found == Some(location(number)) || (number % 2 == 1 && found.is_none()));
            }
        });
        scope.spawn(move || {
            while running.load(Ordering::Acquire) > 0 {
                check_visit(keys, |visit| {
                    index.scan(Bound::Unbounded, &mut |key, location| {
                        visit(key, location);
                        ControlFlow::Continue(())
                    });
                });
            }
        });
        scope.spawn(move || {
            while running.load(Ordering::Acquire) > 0 {
                let (image, saved) = image_of(index);
                let loaded = Index::load(&image).unwrap();
                assert_eq!(loaded.len(), saved.keys);
                check_visit(keys, |visit| {
                    for (key, location) in all(&loaded, Bound::Unbounded) {
                        visit(&key, location);
                    }
                });
            }
        });
    });
    let model = (0..keys).step_by(2).map(|number| (key(number), location(number))).collect();
    assert_same(&index, &model);
}

#[test]
fn a_range_is_dropped_while_others_write_beside_it() {
    let keys: u32 = 5_000;
    let index = Index::new();
    let named = |namespace: u32, number: u32| [&namespace.to_be_bytes()[..], &key(number)].concat();
    for number in 0..keys {
        index.insert(&named(1, number), location(number)).unwrap();
        index.insert(&named(3, number), location(number)).unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (index, done) = (&index, &done);
        scope.spawn(move || {
            for _ in 0..8 {
                for number in 0..keys {
                    index.insert(&named(2, number), location(number)).unwrap();
                }
                let removed = index.remove_range(&2_u32.to_be_bytes(), &3_u32.to_be_bytes());
                assert_eq!(removed, u64::from(keys));
                assert_eq!(index.get(&named(2, keys / 2)), None);
            }
            done.store(true, Ordering::Release);
        });
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                for number in 0..keys {
                    assert_eq!(index.remove(&named(1, number)), Some(location(number)));
                    assert_eq!(index.insert(&named(1, number), location(number)), Ok(None));
                }
            }
        });
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let mut next = all(index, Bound::Included(&3_u32.to_be_bytes()));
                assert_eq!(next.len(), keys as usize);
                next.dedup_by(|a, b| a.0 == b.0);
                assert_eq!(next.len(), keys as usize);
            }
        });
    });
    let model = [1, 3]
        .into_iter()
        .flat_map(|namespace| (0..keys).map(move |n| (named(namespace, n), location(n))))
        .collect();
    assert_same(&index, &model);
}
