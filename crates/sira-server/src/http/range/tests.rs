use super::*;

fn resolved(header: &str, size: u64) -> Option<Resolved> {
    ByteRange::parse(header).map(|range| range.resolve(size))
}

#[test]
fn ranges_are_cut_to_the_value() {
    for (header, size, expected) in [
        ("bytes=0-0", 10, Some(0..1)),
        ("bytes=2-5", 10, Some(2..6)),
        ("bytes=2-99", 10, Some(2..10)),
        ("bytes=9-9", 10, Some(9..10)),
        ("bytes=3-", 10, Some(3..10)),
        ("bytes=-3", 10, Some(7..10)),
        ("bytes=-99", 10, Some(0..10)),
        ("Bytes = 1 - 2 ", 10, Some(1..3)),
        ("bytes=,1-2,", 10, Some(1..3)),
        ("bytes=0-99999999999999999999999", 10, Some(0..10)),
        ("bytes=10-", 10, None),
        ("bytes=10-12", 10, None),
        ("bytes=99999999999999999999-", 10, None),
        ("bytes=-0", 10, None),
        ("bytes=0-", 0, None),
        ("bytes=-1", 0, None),
    ] {
        let expected = expected.map_or(Resolved::Unsatisfiable, Resolved::Satisfiable);
        assert_eq!(resolved(header, size), Some(expected), "{header} of {size}");
    }
}

#[test]
fn what_is_no_single_byte_range_is_ignored() {
    for header in [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=a-b",
        "bytes=1",
        "bytes=+1-2",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=1-2-3",
        "bytes=--1",
    ] {
        assert_eq!(ByteRange::parse(header), None, "{header}");
    }
}
