use super::*;

#[test]
fn months_follow_the_calendar() {
    for (now_ms, expected) in [
        (0, (1970, 1)),
        (951_782_400_000, (2000, 2)),
        (951_868_800_000, (2000, 3)),
        (1_709_164_800_000, (2024, 2)),
        (1_735_689_599_999, (2024, 12)),
        (1_735_689_600_000, (2025, 1)),
    ] {
        assert_eq!(year_month(now_ms), expected, "{now_ms}");
    }
}

#[test]
fn names_of_segments() {
    let path = segment_path(Path::new("/d"), "messages", 7, 1_735_689_600_000);
    assert_eq!(path, Path::new("/d/2025-01/messages.007"));
    assert_eq!(segment_id("messages.007", "messages"), Some(7));
    assert_eq!(segment_id("messages.1234", "messages"), Some(1234));
    for other in ["messages.idx", "messages.07", "messages.007.new", "other.007", "messages.+07"] {
        assert_eq!(segment_id(other, "messages"), None, "{other}");
    }
    assert!(is_month("2025-01") && !is_month("2025-1") && !is_month(".metadata"));
}
