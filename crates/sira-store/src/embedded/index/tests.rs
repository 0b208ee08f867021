mod image;
mod leaf;
mod model;
mod threads;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use super::*;
use crate::env::SeededRandom;

/// A location that says which number it was made of.
fn location(number: u32) -> Location {
    Location {
        segment: number,
        offset: number.wrapping_mul(3),
        item: number.wrapping_mul(5),
        size: number.wrapping_mul(7),
        expiry: number.wrapping_mul(11),
    }
}

fn all(index: &Index, from: Bound<&[u8]>) -> Vec<(Vec<u8>, Location)> {
    let mut found = Vec::new();
    index.scan(from, &mut |key, location| {
        found.push((key.to_vec(), location));
        ControlFlow::Continue(())
    });
    found
}

fn image_of(index: &Index) -> (Vec<u8>, SavedIndex) {
    let mut image = Vec::new();
    let saved = index
        .save(&mut |bytes| {
            image.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
    (image, saved)
}

/// Everything that readers can see is what the model says, and the tree is sound.
fn assert_same(index: &Index, model: &BTreeMap<Vec<u8>, Location>) {
    let expected: Vec<_> = model.iter().map(|(key, location)| (key.clone(), *location)).collect();
    assert_eq!(all(index, Bound::Unbounded), expected);
    assert_eq!(index.len(), model.len() as u64);
    for (key, location) in model {
        assert_eq!(index.get(key), Some(*location));
    }
    check_shape(index);
}

/// Fences ascend, nodes keep their limits, and each leaf's keys lie within its fences.
fn check_shape(index: &Index) {
    let guard = epoch::pin();
    let root = index.root.load(Ordering::Acquire, &guard);
    // SAFETY: as in `Index::descend`.
    let Some(root) = (unsafe { root.as_ref() }) else { return };
    let mut fences = Vec::new();
    let mut leaves = Vec::new();
    for at in 0..root.len() {
        // SAFETY: as above.
        let middle = unsafe { root.value(at).load(Ordering::Acquire, &guard).deref() };
        assert!((1..=structure::MIDDLE_LEN_MAX).contains(&middle.len()));
        assert_eq!(middle.fence(0), root.fence(at));
        for slot in 0..middle.len() {
            fences.push(middle.fence(slot).to_vec());
            leaves.push(*middle.value(slot));
        }
    }
    assert_eq!(fences[0], b"");
    assert!(fences.is_sorted_by(|a, b| a < b));
    for (at, leaf) in leaves.iter().enumerate() {
        let body = index.arena.page(leaf.page).read();
        assert_eq!(body.generation, leaf.generation);
        let mut keys = page::KeyBuffer::new(&body);
        for entry in 0..body.count() {
            let key = keys.key(&body, entry);
            assert!(key >= fences[at].as_slice());
            assert!(fences.get(at + 1).is_none_or(|end| key < end.as_slice()));
        }
    }
}

#[test]
fn empty_index_has_nothing() {
    let index = Index::new();
    assert_eq!(index.get(b""), None);
    assert_eq!(index.remove(b"a"), None);
    assert!(!index.replace(b"a", location(1), location(2)));
    assert_eq!(index.remove_range(b"", b"z"), 0);
    assert_eq!(all(&index, Bound::Unbounded), vec![]);
    assert!(index.is_empty());
    assert_eq!(index.memory_bytes(), 0);
}

#[test]
fn conditions_compare_the_whole_location() {
    let index = Index::new();
    assert_eq!(index.insert(b"k", location(1)), Ok(None));
    assert_eq!(index.insert(b"k", location(2)), Ok(Some(location(1))));
    for field in 0..5 {
        let mut other = location(2);
        *[
            &mut other.segment,
            &mut other.offset,
            &mut other.item,
            &mut other.size,
            &mut other.expiry,
        ][field] += 1;
        assert!(!index.replace(b"k", other, location(3)));
        assert!(!index.remove_if(b"k", other));
    }
    assert!(index.replace(b"k", location(2), location(3)));
    assert!(!index.replace(b"j", location(3), location(4)));
    assert!(!index.remove_if(b"j", location(3)));
    assert!(index.remove_if(b"k", location(3)));
    assert_eq!(index.len(), 0);
}

#[test]
fn keys_over_the_limit_are_refused() {
    let index = Index::new();
    let key = vec![7; KEY_BYTES_MAX + 1];
    let bytes = KEY_BYTES_MAX + 1;
    assert_eq!(index.insert(&key, location(1)), Err(IndexError::KeyTooLong { bytes }));
    assert_eq!(index.insert(&key[1..], location(1)), Ok(None));
    assert_eq!(index.get(&key), None);
    assert_eq!(index.get(&key[1..]), Some(location(1)));
}

#[test]
fn ordered_keys_fill_their_pages() {
    let index = Index::new();
    for number in 0..100_000_u32 {
        index.insert(format!("user:{number:016x}").as_bytes(), location(number)).unwrap();
    }
    let (_, saved) = image_of(&index);
    assert_eq!(saved.keys, 100_000);
    // At most 8 + 20 bytes and a tail of 4 for each; pages are nearly full.
    assert!(saved.pages < 100_000 * 33 / 4072, "{saved:?}");
    check_shape(&index);
}

#[test]
fn random_keys_keep_to_forty_bytes_each_beyond_the_key() {
    let keys = 300_000;
    let index = Index::new();
    let mut random = SeededRandom::new(1);
    for number in 0..keys {
        let key = [random.next_u64().to_be_bytes(), random.next_u64().to_be_bytes()].concat();
        index.insert(&key, location(number)).unwrap();
    }
    check_shape(&index);
    let beyond = index.memory_bytes() / u64::from(keys) - 16;
    assert!(beyond <= 40, "{beyond}");
}

#[test]
fn memory_comes_back_after_removals() {
    let keys = 200_000;
    let index = Index::new();
    let key = |number: u32| format!("{:08x}", number.wrapping_mul(0x9E37_79B1));
    for round in 0..3 {
        for number in 0..keys {
            index.insert(key(number).as_bytes(), location(number)).unwrap();
        }
        let full = index.memory_bytes();
        for number in 0..keys {
            assert_eq!(index.remove(key(number).as_bytes()), Some(location(number)), "{round}");
        }
        check_shape(&index);
        assert_eq!(index.len(), 0);
        // Pages are freed when no thread can hold them, other tests' threads included.
        while index.memory_bytes() > full / 4 + (4 << 20) {
            epoch::pin().flush();
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_dropped_range_takes_nothing_else() {
    let index = Index::new();
    let mut model = BTreeMap::new();
    let keys = 30_000;
    for namespace in 0..5_u32 {
        for number in 0..keys {
            let mut key = namespace.to_be_bytes().to_vec();
            key.extend_from_slice(format!("{:x}", number * 7919 % 1_000_003).as_bytes());
            index.insert(&key, location(number)).unwrap();
            model.insert(key, location(number));
        }
    }
    for namespace in [2_u32, 0, 4] {
        let (from, to) = (namespace.to_be_bytes().to_vec(), (namespace + 1).to_be_bytes().to_vec());
        let before = model.len();
        model.retain(|key, _| *key < from || *key >= to);
        assert_eq!(index.remove_range(&from, &to), (before - model.len()) as u64);
        assert_eq!(index.remove_range(&from, &to), 0);
        assert_same(&index, &model);
    }
    assert_eq!(index.remove_range(&[9], &[1]), 0);
    assert_eq!(index.remove_range(&[], &[255; 5]), model.len() as u64);
    assert_same(&index, &BTreeMap::new());
    let guard = epoch::pin();
    // SAFETY: as in `Index::descend`.
    let root = unsafe { index.root.load(Ordering::Acquire, &guard).deref() };
    assert!(root.len() <= 2, "{} nodes are left", root.len());
}

#[test]
fn visits_may_change_the_index() {
    let index = Index::new();
    for number in 0..5_000_u32 {
        index.insert(&number.to_be_bytes(), location(number)).unwrap();
    }
    let mut seen = Vec::new();
    index.scan(Bound::Excluded(&10_u32.to_be_bytes()), &mut |key, found| {
        seen.push(found.segment);
        index.remove(key);
        index.insert(&[key, b"+"].concat(), location(9)).unwrap();
        if found.segment == 4_000 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // What a visit adds right behind itself may be visited too.
    seen.retain(|number| *number != 9);
    assert_eq!(seen, (11..=4_000).collect::<Vec<_>>());
    assert_eq!(index.len(), 5_000);
}
