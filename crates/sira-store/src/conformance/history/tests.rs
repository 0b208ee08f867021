use std::collections::BTreeMap;

use super::{Committed, check};

fn committed(number: u32, read: &[(usize, &[u32])], appended: &[usize]) -> Committed {
    Committed {
        number,
        read: read.iter().map(|(list, read)| (*list, read.to_vec())).collect(),
        appended: appended.iter().copied().collect(),
        begun: 0,
        ended: 100,
    }
}

fn lists(held: &[&[u32]]) -> BTreeMap<usize, Vec<u32>> {
    held.iter().enumerate().map(|(list, held)| (list, held.to_vec())).collect()
}

#[test]
fn what_ran_one_after_the_other_is_right() {
    let history = [
        committed(1, &[(0, &[]), (1, &[])], &[0]),
        committed(2, &[(0, &[1])], &[1]),
        committed(3, &[(0, &[1]), (1, &[2])], &[]),
    ];
    assert_eq!(check(&history, &lists(&[&[1], &[2]])), Ok(()));
}

#[test]
fn a_write_that_was_lost_is_seen() {
    let history = [committed(1, &[(0, &[])], &[0]), committed(2, &[(0, &[])], &[0])];
    assert!(check(&history, &lists(&[&[2]])).is_err());
    assert!(check(&history, &lists(&[&[1, 2]])).is_err(), "both read the empty list");
}

#[test]
fn a_write_of_one_that_was_not_committed_is_seen() {
    assert!(check(&[], &lists(&[&[1]])).is_err());
    let read = [committed(2, &[(0, &[1])], &[])];
    assert!(check(&read, &lists(&[&[]])).is_err());
}

#[test]
fn writes_that_cross_reads_are_seen() {
    // Each read what the other wrote before it did.
    let history =
        [committed(1, &[(0, &[]), (1, &[])], &[0]), committed(2, &[(0, &[]), (1, &[])], &[1])];
    assert!(check(&history, &lists(&[&[1], &[2]])).is_err());
}

#[test]
fn half_of_a_transaction_is_seen() {
    let history = [committed(1, &[], &[0, 1]), committed(2, &[(0, &[1]), (1, &[])], &[])];
    assert!(check(&history, &lists(&[&[1], &[1]])).is_err());
}

#[test]
fn what_had_ended_comes_before_what_began() {
    let mut late = committed(2, &[(0, &[])], &[]);
    let history = [committed(1, &[(0, &[])], &[0]), late.clone()];
    assert_eq!(check(&history, &lists(&[&[1]])), Ok(()));
    (late.begun, late.ended) = (101, 102);
    let history = [committed(1, &[(0, &[])], &[0]), late];
    assert!(check(&history, &lists(&[&[1]])).is_err(), "an old state was read");
}
