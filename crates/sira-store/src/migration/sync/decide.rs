//! What is to be done about a key: a function of what both sides have and had.

use crate::backend::ObjectHead;
use crate::migration::ledger::{Entry, Pending};
use crate::migration::{ConflictRule, Side};
use crate::version::Version;

/// What is to be done about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: both sides have this version, or nothing.
    Settled(Option<Version>),
    /// Both sides have this version, and it is not known whether it is the same object: clocks of two
    /// stores can give the same one.
    Compare(Version),
    /// The object of one side goes to the other one.
    Bring(Box<Bring>),
    /// The object leaves this side, unless it has another version by then.
    Remove {
        /// The side that has it.
        from: Side,
        /// The version that both sides had.
        version: Version,
    },
}

/// An object that goes from one side to the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bring {
    /// Where it goes to.
    pub(super) to: Side,
    /// What the other side has.
    pub(super) head: ObjectHead,
    /// What it replaces.
    pub(super) over: Option<Version>,
    /// Both sides had changed it.
    pub(super) conflict: bool,
    /// What it replaces is kept beside it, behind this and its version.
    pub(super) aside: Option<String>,
}

impl Bring {
    /// Whether it must get a new version, because it replaces something newer.
    pub(super) fn is_older(&self) -> bool {
        self.over.is_some_and(|over| self.head.version <= over)
    }
}

impl Side {
    /// The other side.
    pub(in crate::migration) fn other(self) -> Self {
        match self {
            Self::Source => Self::Target,
            Self::Target => Self::Source,
        }
    }
}

/// The version that both sides had, taking in a write that was about to be made when the ledger was
/// written: where its side has it and the other one no longer does, it took effect, and the other one
/// was changed after it.
pub(super) fn agreed(
    entry: &Entry,
    source: Option<Version>,
    target: Option<Version>,
) -> Option<Version> {
    match entry.pending {
        Some(Pending { version, to }) => {
            let (here, there) = match to {
                Side::Source => (source, target),
                Side::Target => (target, source),
            };
            if here == Some(version) && there != here { Some(version) } else { entry.agreed }
        }
        None => entry.agreed,
    }
}

/// What is to be done about a key. `differ` says that the objects were compared, and are two although
/// they have one version.
pub(super) fn decide(
    key: &str,
    rule: &ConflictRule,
    agreed: Option<Version>,
    source: Option<&ObjectHead>,
    target: Option<&ObjectHead>,
    differ: bool,
) -> Step {
    let bring = |to: Side, head: &ObjectHead, over: Option<Version>| {
        Step::Bring(Box::new(Bring { to, head: head.clone(), over, conflict: false, aside: None }))
    };
    match (source, target) {
        (None, None) => Step::Settled(None),
        (Some(source), Some(target)) if source.version == target.version && !differ => {
            if agreed == Some(source.version) {
                Step::Settled(agreed)
            } else {
                Step::Compare(source.version)
            }
        }
        (Some(source), Some(target)) if agreed == Some(source.version) && !differ => {
            bring(Side::Source, target, agreed)
        }
        (Some(source), Some(target)) if agreed == Some(target.version) && !differ => {
            bring(Side::Target, source, agreed)
        }
        (Some(source), Some(target)) => resolve(key, rule, source, target),
        // What was changed here is kept, although the other side has removed what it was before.
        (Some(head), None) if agreed != Some(head.version) => bring(Side::Target, head, None),
        (None, Some(head)) if agreed != Some(head.version) => bring(Side::Source, head, None),
        (Some(head), None) => Step::Remove { from: Side::Source, version: head.version },
        (None, Some(head)) => Step::Remove { from: Side::Target, version: head.version },
    }
}

/// Both sides have changed the object.
fn resolve(key: &str, rule: &ConflictRule, source: &ObjectHead, target: &ObjectHead) -> Step {
    let newest = if source.version >= target.version { Side::Source } else { Side::Target };
    let mut aside = None;
    let winner = match rule {
        ConflictRule::Newest => newest,
        ConflictRule::Source => Side::Source,
        ConflictRule::Target => Side::Target,
        ConflictRule::KeepBoth { separator } => {
            aside = Some(separator.clone());
            newest
        }
        ConflictRule::Rule(choose) => choose(key, source, target),
    };
    let (head, over) = match winner {
        Side::Source => (source, target),
        Side::Target => (target, source),
    };
    Step::Bring(Box::new(Bring {
        to: winner.other(),
        head: head.clone(),
        over: Some(over.version),
        conflict: true,
        aside,
    }))
}
