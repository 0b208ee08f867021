//! Whether transactions on lists could have run one after the other.
//!
//! Each transaction reads lists and appends its own number to some of them. What the lists hold in
//! the end tells in which order they were written; what was read tells who came before and after.
//! A circle of such relations, and of what had ended before what began, is no order at all. After
//! Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations",
//! VLDB 2020.

use std::collections::{BTreeMap, BTreeSet};

/// A transaction that was committed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Committed {
    pub(crate) number: u32,
    /// What each list held when it was read, which is before its own append.
    pub(crate) read: BTreeMap<usize, Vec<u32>>,
    /// Lists that it appended its number to.
    pub(crate) appended: BTreeSet<usize>,
    /// Ticks of a clock when it began and when it was known to have been committed.
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

/// Checks a history against what the lists hold in the end.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(
    history: &[Committed],
    lists: &BTreeMap<usize, Vec<u32>>,
) -> Result<(), String> {
    let at: BTreeMap<u32, usize> =
        history.iter().enumerate().map(|(at, committed)| (committed.number, at)).collect();
    for (list, held) in lists {
        let mut wanted: Vec<u32> = history
            .iter()
            .filter(|committed| committed.appended.contains(list))
            .map(|committed| committed.number)
            .collect();
        let mut found = held.clone();
        wanted.sort_unstable();
        found.sort_unstable();
        if wanted != found {
            return Err(format!(
                "list {list} holds {held:?}, but what was appended to it and committed is {wanted:?}"
            ));
        }
    }
    let nothing = Vec::new();
    let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); history.len()];
    let mut before = |one: Option<u32>, other: Option<u32>| {
        let (Some(one), Some(other)) = (one, other) else { return };
        if let (Some(&one), Some(&other)) = (at.get(&one), at.get(&other))
            && one != other
            && let Some(after) = after.get_mut(one)
        {
            after.insert(other);
        }
    };
    for held in lists.values() {
        for pair in held.windows(2) {
            before(pair.first().copied(), pair.last().copied());
        }
    }
    for committed in history {
        for (list, read) in &committed.read {
            let held = lists.get(list).unwrap_or(&nothing);
            if !held.starts_with(read) {
                return Err(format!(
                    "transaction {} read {read:?} of list {list}, which held {held:?} in the end",
                    committed.number
                ));
            }
            before(read.last().copied(), Some(committed.number));
            before(Some(committed.number), held.get(read.len()).copied());
        }
        for other in history.iter().filter(|other| committed.ended < other.begun) {
            before(Some(committed.number), Some(other.number));
        }
    }
    match circle(&after) {
        None => Ok(()),
        Some(among) => {
            let involved: Vec<_> = among.iter().filter_map(|&at| history.get(at)).collect();
            Err(format!("transactions that cannot have run one after the other: {involved:?}"))
        }
    }
}

/// Members of circles, and what lies behind them; `None` where there is no circle.
fn circle(after: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut waits_for = vec![0_usize; after.len()];
    for &other in after.iter().flatten() {
        if let Some(count) = waits_for.get_mut(other) {
            *count += 1;
        }
    }
    let mut free: Vec<usize> =
        (0..after.len()).filter(|&at| waits_for.get(at) == Some(&0)).collect();
    let mut ordered = BTreeSet::new();
    while let Some(at) = free.pop() {
        ordered.insert(at);
        for &other in after.get(at).into_iter().flatten() {
            if let Some(count) = waits_for.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    free.push(other);
                }
            }
        }
    }
    let left: Vec<usize> = (0..after.len()).filter(|at| !ordered.contains(at)).collect();
    (!left.is_empty()).then_some(left)
}

#[cfg(test)]
mod tests;
