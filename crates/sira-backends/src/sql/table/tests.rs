use sira_store::driver::{Guard, Record};

use super::*;

#[test]
fn table_names_are_plain() {
    for name in ["sira", "_s", "Sira_2", &"t".repeat(50)] {
        check_table_name(name).unwrap();
    }
    for name in ["", "2s", "a.b", "a\"b", "a`b", "a b", "é", &"t".repeat(51)] {
        assert_eq!(check_table_name(name).unwrap_err().code(), "invalid_input", "{name:?}");
    }
}

fn put(key: &str, bytes: usize, exact: bool) -> Change {
    let record = Record { body: vec![0; bytes].into(), ..Record::default() };
    Change::Put { key: key.to_owned(), record, guard: Guard { exact, ..Guard::always(0) } }
}

fn remove(key: &str) -> Change {
    Change::Remove { key: key.to_owned(), guard: Guard::always(0) }
}

#[test]
fn plans_join_neighbours_in_the_order_of_keys() {
    let changes = [
        put("e", 1, false),
        remove("c"),
        put("a", 1, false),
        put("d", 1, true),
        put("b", 1, false),
    ];
    let steps = plan(&changes, 100, 1 << 20);
    assert_eq!(
        steps,
        [
            Step::Puts(vec![2, 4]),
            Step::Removals(vec![1]),
            Step::ExactPuts(vec![3]),
            Step::Puts(vec![0])
        ]
    );
    let steps = plan(&[put("b", 1, true), put("a", 1, true), put("c", 1, false)], 100, 1 << 20);
    assert_eq!(steps, [Step::ExactPuts(vec![1, 0]), Step::Puts(vec![2])]);
    let record = Record::default();
    let guard = Guard { condition: Condition::IfAbsent, ..Guard::always(0) };
    let steps = plan(&[Change::Put { key: "a".to_owned(), record, guard }], 100, 1 << 20);
    assert_eq!(steps, [Step::One(0)]);
    let steps = plan(&[put("a", SHARED_BODY_BYTES_MAX + 1, false)], 100, 1 << 20);
    assert_eq!(steps, [Step::One(0)]);
    assert!(plan(&[], 1, 1).is_empty());
}

#[test]
fn plans_keep_their_limits() {
    let changes: Vec<_> = (0..7).map(|number| put(&number.to_string(), 9, false)).collect();
    let sizes = |changes_max, bytes_max| -> Vec<usize> {
        let steps = plan(&changes, changes_max, bytes_max);
        let size = |step: &Step| match step {
            Step::Puts(run) | Step::ExactPuts(run) | Step::Removals(run) => run.len(),
            Step::One(_) => 0,
        };
        steps.iter().map(size).collect()
    };
    assert_eq!(sizes(3, 1000), [3, 3, 1]);
    assert_eq!(sizes(100, 20), [2, 2, 2, 1]);
    assert_eq!(sizes(100, 1), [1; 7]);
}
