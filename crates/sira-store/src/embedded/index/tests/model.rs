//! The index against `BTreeMap`.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Insert(Vec<u8>, u32),
    Replace(Vec<u8>, bool, u32),
    Remove(Vec<u8>),
    RemoveIf(Vec<u8>, bool),
    Get(Vec<u8>),
    Scan(Vec<u8>, bool, usize),
    RemoveRange(Vec<u8>, Vec<u8>),
    Reload,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0..40_u32, 0..4_000_u32];
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..=KEY_BYTES_MAX),
        2 => prop::collection::vec(0..3_u8, 0..9),
        8 => number.clone().prop_map(|n| format!("user:{:08x}", n.wrapping_mul(0x9E37_79B1)).into()),
        4 => number.clone().prop_map(|n| n.to_be_bytes().to_vec()),
        // Long keys with a long common prefix: few to a page, so the tree grows quickly.
        8 => (number, 0..30_usize).prop_map(|(n, cut)| {
            let mut key = vec![b'/'; KEY_BYTES_MAX - 8];
            key.extend_from_slice(format!("{n:08}").as_bytes());
            key[900 + cut] = b'a' + (n % 20) as u8;
            key
        }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        20 => (key(), any::<u32>()).prop_map(|(k, n)| Operation::Insert(k, n)),
        2 => (key(), any::<bool>(), any::<u32>()).prop_map(|(k, b, n)| Operation::Replace(k, b, n)),
        8 => key().prop_map(Operation::Remove),
        2 => (key(), any::<bool>()).prop_map(|(k, b)| Operation::RemoveIf(k, b)),
        4 => key().prop_map(Operation::Get),
        1 => (key(), any::<bool>(), 0..300_usize).prop_map(|(k, b, n)| Operation::Scan(k, b, n)),
        1 => (key(), key()).prop_map(|(a, b)| Operation::RemoveRange(a, b)),
        1 => Just(Operation::Reload),
    ]
}

fn apply(index: &mut Index, model: &mut BTreeMap<Vec<u8>, Location>, operation: Operation) {
    match operation {
        Operation::Insert(key, number) => {
            assert_eq!(index.insert(&key, location(number)), Ok(model.get(&key).copied()));
            model.insert(key, location(number));
        }
        Operation::Replace(key, right, number) => {
            let there = model.get(&key).copied();
            let expected = if right { there } else { None }.unwrap_or(location(77));
            let done = there == Some(expected);
            assert_eq!(index.replace(&key, expected, location(number)), done);
            if done {
                model.insert(key, location(number));
            }
        }
        Operation::Remove(key) => assert_eq!(index.remove(&key), model.remove(&key)),
        Operation::RemoveIf(key, right) => {
            let there = model.get(&key).copied();
            let expected = if right { there } else { None }.unwrap_or(location(77));
            let done = there == Some(expected);
            assert_eq!(index.remove_if(&key, expected), done);
            if done {
                model.remove(&key);
            }
        }
        Operation::Get(key) => assert_eq!(index.get(&key), model.get(&key).copied()),
        Operation::Scan(key, excluded, limit) => {
            let from = if excluded { Bound::Excluded(&key[..]) } else { Bound::Included(&key[..]) };
            let expected: Vec<_> = model
                .range::<[u8], _>((from, Bound::Unbounded))
                .take(limit + 1)
                .map(|(key, location)| (key.clone(), *location))
                .collect();
            let mut found = Vec::new();
            index.scan(from, &mut |key, location| {
                found.push((key.to_vec(), location));
                if found.len() > limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(found, expected);
        }
        Operation::RemoveRange(from, to) => {
            let before = model.len();
            model.retain(|key, _| *key < from || *key >= to);
            assert_eq!(index.remove_range(&from, &to), (before - model.len()) as u64);
        }
        Operation::Reload => {
            let (image, saved) = image_of(index);
            assert_eq!(saved.keys, model.len() as u64);
            assert_eq!(saved.bytes, image.len() as u64);
            *index = Index::load(&image).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn behaves_like_a_sorted_map(
        operations in prop::collection::vec(operation(), 0..3_000),
    ) {
        let mut index = Index::new();
        let mut model = BTreeMap::new();
        for operation in operations {
            apply(&mut index, &mut model, operation);
        }
        assert_same(&index, &model);
    }
}

#[test]
fn grows_and_shrinks_through_all_levels() {
    // Keys of which three fill a page: some 20,000 leaves under some hundred nodes.
    let index = Index::new();
    let mut model = BTreeMap::new();
    let key = |number: u32| {
        let mut key = number.wrapping_mul(0x9E37_79B1).to_be_bytes().to_vec();
        key.resize(KEY_BYTES_MAX, 1);
        key
    };
    for number in 0..40_000 {
        index.insert(&key(number), location(number)).unwrap();
        model.insert(key(number), location(number));
    }
    assert_same(&index, &model);
    for number in 0..40_000 {
        if number % 37 != 0 {
            assert_eq!(index.remove(&key(number)), model.remove(&key(number)));
        }
    }
    assert_same(&index, &model);
    let (_, saved) = image_of(&index);
    assert!(saved.pages < 40_000 / 37, "{saved:?}");
}
