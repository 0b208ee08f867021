use super::*;

#[test]
fn only_canonical_integers_are_numbers() {
    for (text, value) in [
        ("0", 0),
        ("-1", -1),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("10", 10),
    ] {
        assert_eq!(parse_i64(text.as_bytes()), Some(value), "{text}");
    }
    for text in
        ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "1.0", "--1"]
    {
        assert_eq!(parse_i64(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn cursors_are_read_as_strtoul_does() {
    for (text, value) in [("0", 0), ("", 0), ("007", 7), ("18446744073709551615", u64::MAX)] {
        assert_eq!(parse_cursor(text.as_bytes()), Some(value), "{text}");
    }
    for text in ["x", "1x", "18446744073709551616", "-", " 1"] {
        assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
    }
}

fn sum(left: &str, right: &str) -> String {
    let left = Extended::parse(left.as_bytes()).unwrap();
    left.add(Extended::parse(right.as_bytes()).unwrap()).unwrap().format()
}

#[test]
fn sums_print_as_long_doubles_do() {
    assert_eq!(sum("3", "0.1"), "3.1");
    assert_eq!(sum("10.50", "0.1"), "10.6");
    assert_eq!(sum("5.0e3", "2.0e2"), "5200");
    assert_eq!(sum("1.5", "-1.5"), "0");
    assert_eq!(sum("-0.000", "-0"), "0");
    assert_eq!(sum("1.23", "1e-19"), "1.23");
    assert_eq!(sum("17179869184", "0.00000000001"), "17179869184");
    assert_eq!(sum("1e100", "0").len(), 100, "the nearest number is below");
}

#[test]
fn what_is_no_number_is_refused() {
    for text in ["", "-", ".", "1.2.3", "abc", " 1", "1 ", "1e", "1e999999", "1e-999999", "nan"] {
        assert_eq!(Extended::parse(text.as_bytes()), Err(FloatError::Invalid), "{text:?}");
    }
    let infinite = Extended::parse(b"+inf").unwrap();
    assert_eq!(infinite.add(Extended::ZERO), Err(FloatError::Infinite));
    let largest = Extended::parse(b"1.1e4932").unwrap();
    assert_eq!(largest.add(largest), Err(FloatError::Infinite));
}
