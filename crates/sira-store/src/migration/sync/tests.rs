use super::decide::{Step, agreed, decide};
use crate::backend::ObjectHead;
use crate::metadata::Metadata;
use crate::migration::ledger::{Entry, Pending};
use crate::migration::{ConflictRule, Side};
use crate::version::Version;

fn version(number: u64) -> Option<Version> {
    (number != 0).then(|| Version::from_u64(number))
}

fn head(number: u64) -> Option<ObjectHead> {
    version(number).map(|version| ObjectHead {
        version,
        size: 1,
        expires_at_ms: None,
        metadata: Metadata::default(),
    })
}

/// What is done, in one line; 0 is no object.
fn done(rule: &ConflictRule, agreed: u64, source: u64, target: u64) -> String {
    let (source, target) = (head(source), head(target));
    let step = decide("k", rule, version(agreed), source.as_ref(), target.as_ref(), false);
    match step {
        Step::Settled(agreed) => format!("settled {}", agreed.map_or(0, Version::as_u64)),
        Step::Compare(version) => format!("compare {}", version.as_u64()),
        Step::Bring(bring) => {
            let older = if bring.is_older() { " anew" } else { "" };
            let conflict = if bring.conflict { " conflict" } else { "" };
            format!("{} to {:?}{older}{conflict}", bring.head.version.as_u64(), bring.to)
        }
        Step::Remove { from, version } => format!("remove {} from {from:?}", version.as_u64()),
    }
}

#[test]
fn every_case_has_its_step() {
    let newest = ConflictRule::Newest;
    for (agreed, source, target, expected) in [
        (0, 0, 0, "settled 0"),
        (5, 0, 0, "settled 0"),
        (5, 5, 5, "settled 5"),
        (0, 5, 5, "compare 5"),
        (4, 5, 5, "compare 5"),
        (0, 5, 0, "5 to Target"),
        (0, 0, 5, "5 to Source"),
        (5, 5, 0, "remove 5 from Source"),
        (5, 0, 5, "remove 5 from Target"),
        (5, 5, 6, "6 to Source"),
        (5, 6, 5, "6 to Target"),
        (5, 5, 4, "4 to Source anew"),
        (5, 6, 0, "6 to Target"),
        (5, 0, 6, "6 to Source"),
        (0, 5, 6, "6 to Source conflict"),
        (5, 7, 6, "7 to Target conflict"),
    ] {
        assert_eq!(done(&newest, agreed, source, target), expected, "{agreed} {source} {target}");
    }
    assert_eq!(done(&ConflictRule::Source, 5, 6, 7), "6 to Target anew conflict");
    assert_eq!(done(&ConflictRule::Target, 5, 6, 7), "7 to Source conflict");
    assert_eq!(done(&ConflictRule::Source, 5, 0, 7), "7 to Source");
}

#[test]
fn a_write_that_was_announced_counts_where_it_shows() {
    let seen = |to, source, target| {
        let pending = Some(Pending { version: Version::from_u64(9), to });
        let entry = Entry { agreed: version(5), pending };
        agreed(&entry, version(source), version(target)).map_or(0, Version::as_u64)
    };
    // It came, and then the side that it came from was changed.
    assert_eq!(seen(Side::Target, 0, 9), 9);
    assert_eq!(seen(Side::Source, 9, 12), 9);
    // It came, and may be what was there before; or it did not come.
    assert_eq!(seen(Side::Target, 9, 9), 5);
    assert_eq!(seen(Side::Target, 9, 5), 5);
    assert_eq!(seen(Side::Source, 5, 9), 5);
    assert_eq!(agreed(&Entry::default(), version(1), version(1)), None);
}
