//! One page at a time.

use super::super::page::{Body, KeyBuffer, Put};
use super::*;

fn contents(body: &Body) -> BTreeMap<Vec<u8>, Location> {
    let mut keys = KeyBuffer::new(body);
    let found: Vec<_> =
        (0..body.count()).map(|at| (keys.key(body, at).to_vec(), body.location(at))).collect();
    assert!(found.is_sorted_by(|a, b| a.0 < b.0));
    found.into_iter().collect()
}

/// Keys that share much, end early, hold zeros, or are as long as can be.
fn key(random: &mut SeededRandom) -> Vec<u8> {
    let long = match random.below(12) {
        0 => KEY_BYTES_MAX,
        1 => 1_000,
        2..5 => 40,
        _ => 12,
    };
    let shared = random.below(long as u64 + 1) as usize;
    let mut key = vec![b'p'; shared.saturating_sub(random.below(6) as usize)];
    for _ in 0..random.below(5) {
        if key.len() < KEY_BYTES_MAX {
            key.push(b"\0\x01pq\xff"[random.below(5) as usize]);
        }
    }
    key
}

#[test]
fn padded_heads_keep_the_order_of_short_keys() {
    let mut body = Body::empty();
    let keys: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\0\0",
        b"\0\0\0\0",
        b"\0\0\0\0\0",
        b"\0\0\0\0\x01",
        b"a",
        b"a\0",
        b"a\0\0\0\0",
    ];
    for (number, key) in keys.iter().enumerate().rev() {
        assert_eq!(body.put(key, location(number as u32)), Put::Added);
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(body.search(key), Ok(number));
    }
    assert_eq!(body.search(b"\0\0\0"), Err(3));
}

#[test]
fn puts_splits_removals_and_merges_lose_nothing() {
    for seed in 0..300 {
        let mut random = SeededRandom::new(seed);
        let mut leaves = vec![Body::empty()];
        let mut model = BTreeMap::new();
        for number in 0..400 {
            let key = key(&mut random);
            let at = leaves
                .iter()
                .rposition(|leaf| leaf.count() > 0 && KeyBuffer::new(leaf).key(leaf, 0) <= &key[..])
                .unwrap_or(0);
            if random.below(4) == 0 {
                let leaf = &mut leaves[at];
                assert_eq!(leaf.search(&key).is_ok(), model.remove(&key).is_some());
                if let Ok(found) = leaf.search(&key) {
                    leaf.remove(found);
                }
                if at + 1 < leaves.len() {
                    let right = leaves.remove(at + 1);
                    if !leaves[at].merge(&right) {
                        leaves.insert(at + 1, right);
                    }
                }
            } else {
                let previous = model.insert(key.clone(), location(number));
                match leaves[at].put(&key, location(number)) {
                    Put::Added => assert_eq!(previous, None),
                    Put::Replaced(old) => assert_eq!(previous, Some(old)),
                    Put::Full => {
                        assert_eq!(previous, None);
                        let mut right = Body::empty();
                        let fence = leaves[at].split(&mut right, &key, location(number));
                        let (left, high) = (contents(&leaves[at]), contents(&right));
                        assert!(left.keys().next_back() < Some(&fence));
                        assert!(Some(&fence) <= high.keys().next());
                        leaves.insert(at + 1, right);
                    }
                }
            }
            let found: BTreeMap<_, _> = leaves.iter().flat_map(contents).collect();
            assert_eq!(found, model);
        }
    }
}

#[test]
fn ranges_are_taken_out_and_kept() {
    let mut random = SeededRandom::new(9);
    for _ in 0..500 {
        let mut body = Body::empty();
        for number in 0..200 {
            body.put(&key(&mut random), location(number));
        }
        for _ in 0..random.below(3) {
            body.remove(random.below(body.count() as u64) as usize);
        }
        let all: Vec<_> = contents(&body).into_iter().collect();
        let low = random.below(all.len() as u64 + 1) as usize;
        let high = low + random.below((all.len() - low) as u64 + 1) as usize;
        let mut kept = body;
        kept.keep(low..high);
        assert_eq!(contents(&kept), all[low..high].iter().cloned().collect());
        body.remove_all(low..high);
        assert_eq!(contents(&body), [&all[..low], &all[high..]].concat().into_iter().collect());
    }
}
