//! What a register may answer.

use std::collections::BTreeSet;

/// An operation on one key, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) begin: u64,
    /// `None` when the caller never had an answer, or one that leaves open what happened.
    pub(super) end: Option<u64>,
    pub(super) what: What,
    /// Version that was read or written.
    pub(super) version: u64,
}

/// What an operation did. Values are unique, 0 stands for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Read(u64),
    Write(u64),
    /// Writes the second over the first.
    Swap(u64, u64),
    Delete,
}

impl What {
    pub(super) fn written(self) -> Option<u64> {
        match self {
            Self::Read(_) => None,
            Self::Write(value) | Self::Swap(_, value) => Some(value),
            Self::Delete => Some(0),
        }
    }

    /// The state after the operation, if it can happen in this one.
    fn apply(self, state: u64) -> Option<u64> {
        match self {
            Self::Read(value) => (state == value).then_some(state),
            Self::Write(value) => Some(value),
            Self::Swap(from, to) => (state == from).then_some(to),
            Self::Delete => Some(0),
        }
    }
}

/// Whether the calls can be put into one order that agrees with time and answers (Wing and Gong,
/// "Testing and Verifying Concurrent Objects", 1993; Lowe's memory of visited states).
pub(super) fn linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= 64, "the mask of the search is too small");
    let must: u64 = mask(calls, |call| call.end.is_some());
    let (mut visited, mut stack) = (BTreeSet::new(), vec![(0_u64, 0_u64)]);
    while let Some((done, state)) = stack.pop() {
        if done & must == must {
            return true;
        }
        if !visited.insert((done, state)) {
            continue;
        }
        let open = |at: usize| done & (1 << at) == 0;
        let first_end =
            (0..calls.len()).filter(|at| open(*at)).filter_map(|at| calls[at].end).min();
        for (at, call) in calls.iter().enumerate() {
            if open(at) && first_end.is_none_or(|end| call.begin < end) {
                stack.extend(call.what.apply(state).map(|next| (done | 1 << at, next)));
            }
        }
    }
    false
}

fn mask(calls: &[Call], holds: impl Fn(&Call) -> bool) -> u64 {
    calls.iter().enumerate().filter(|(_, call)| holds(call)).map(|(at, _)| 1 << at).sum()
}

/// Whether every read saw a write that had begun and that no later acknowledged one had replaced
/// before the read began (a regular register: Lamport, "On Interprocess Communication", 1986), and
/// no two acknowledged swaps that began after a write had ended took its place.
pub(super) fn regular(calls: &[Call]) -> Result<(), String> {
    for read in calls {
        let What::Read(value) = read.what else { continue };
        let Some(read_end) = read.end else { continue };
        let sources = calls.iter().filter(|call| call.what.written() == Some(value));
        let initial = (value == 0).then_some((0, Some(0)));
        let mut sources = sources.map(|call| (call.begin, call.end)).chain(initial);
        let fresh = sources.any(|(begin, end)| {
            let replaced = calls.iter().any(|other| {
                other.what.written().is_some_and(|written| written != value)
                    && end.is_some_and(|end| other.begin > end)
                    && other.end.is_some_and(|end| end < read.begin)
            });
            begin < read_end && !replaced
        });
        if !fresh {
            return Err(format!("{read:?} saw what was not there by then"));
        }
    }
    let mut replaced = BTreeSet::new();
    for call in calls.iter().filter(|call| call.end.is_some()) {
        let What::Swap(from, _) = call.what else { continue };
        // A write that meets a move may be made twice before it is acknowledged.
        let settled = calls.iter().any(|source| {
            source.what.written() == Some(from) && source.end.is_some_and(|end| end < call.begin)
        });
        if settled && !replaced.insert(from) {
            // A version that was drawn twice shows as several values.
            let writes =
                || calls.iter().filter_map(|call| Some((call.version, call.what.written()?)));
            let version =
                writes().find(|(_, written)| *written == from).map(|(version, _)| version);
            let same: Vec<u64> =
                writes().filter(|write| Some(write.0) == version).map(|write| write.1).collect();
            return Err(format!("{from} was replaced twice; writes of its version: {same:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_checks_tell_right_from_wrong() {
    let call = |begin, end, what| Call { begin, end: Some(end), what, version: 0 };
    let fine = [call(1, 2, What::Write(1)), call(3, 6, What::Write(2)), call(4, 5, What::Read(1))];
    assert!(linearizable(&fine) && regular(&fine).is_ok());
    let stale = [call(1, 2, What::Write(1)), call(3, 4, What::Write(2)), call(5, 6, What::Read(1))];
    assert!(!linearizable(&stale) && regular(&stale).is_err());
    let lost = [call(1, 2, What::Write(1)), call(3, 4, What::Read(0))];
    assert!(!linearizable(&lost) && regular(&lost).is_err());
    let back = [
        call(1, 9, What::Write(1)),
        call(2, 9, What::Write(2)),
        call(3, 4, What::Read(1)),
        call(5, 6, What::Read(2)),
        call(7, 8, What::Read(1)),
    ];
    assert!(!linearizable(&back) && regular(&back).is_ok());
    let unknown = [
        Call { begin: 1, end: None, what: What::Write(1), version: 0 },
        call(2, 3, What::Read(0)),
        call(4, 5, What::Read(1)),
    ];
    assert!(linearizable(&unknown) && regular(&unknown).is_ok());
    let twice =
        [call(1, 2, What::Write(1)), call(3, 4, What::Swap(1, 2)), call(5, 6, What::Swap(1, 3))];
    assert!(!linearizable(&twice) && regular(&twice).is_err());
}
