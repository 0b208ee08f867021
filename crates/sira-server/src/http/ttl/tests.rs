use super::*;

#[test]
fn times_to_live_have_units_and_decimals() {
    for (text, ms) in [
        ("1", 1_000),
        ("0.5", 500),
        (" 90 ", 90_000),
        (".25", 250),
        ("500ms", 500),
        ("10s", 10_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1.5h", 5_400_000),
        ("0.1", 100),
        ("3 s", 3_000),
    ] {
        assert_eq!(parse_ttl(text).unwrap(), Duration::from_millis(ms), "{text}");
    }
}

#[test]
fn what_is_no_time_to_live_is_refused() {
    for text in [
        "",
        " ",
        "0",
        "0ms",
        "-1",
        "+1",
        "1e3",
        "inf",
        "nan",
        "s",
        "1w",
        "1S",
        "1 2",
        "1.2.3",
        "10s5",
        "99999999999999999999d",
        "0x10",
        "\u{661}",
    ] {
        assert_eq!(parse_ttl(text).unwrap_err().code(), "invalid_input", "{text:?}");
    }
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        assert!(ttl_from_seconds(seconds).is_err(), "{seconds}");
    }
}

#[test]
fn durabilities_are_read() {
    assert_eq!(parse_durability("sync").unwrap(), Durability::Sync);
    assert_eq!(parse_durability(" none").unwrap(), Durability::None);
    assert_eq!(parse_durability("interval:50").unwrap(), Durability::Interval(50));
    for text in ["", "Sync", "interval", "interval:", "interval:-1", "interval:+1", "interval:1s"] {
        assert_eq!(parse_durability(text).unwrap_err().code(), "invalid_input", "{text:?}");
    }
}
