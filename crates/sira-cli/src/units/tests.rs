use super::*;

#[test]
fn durations() {
    let ms = |text| parse_duration(text).map(|d| d.as_millis());
    assert_eq!(ms("90"), Ok(90_000));
    assert_eq!(ms("500ms"), Ok(500));
    assert_eq!(ms("1h30m"), Ok(5_400_000));
    assert_eq!(ms("7d"), Ok(604_800_000));
    for wrong in ["", "s", "1x", "1h30", "-1", "99999999999999999999s", "213503982335d", "1.5h"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn sizes() {
    assert_eq!(parse_size("512"), Ok(512));
    assert_eq!(parse_size("64KiB"), Ok(65_536));
    assert_eq!(parse_size("64k"), Ok(65_536));
    assert_eq!(parse_size("10MB"), Ok(10_000_000));
    for wrong in ["", "k", "1x", "-1", "99999999999G"] {
        assert!(parse_size(wrong).is_err(), "{wrong}");
    }
    assert_eq!(human_size(1023), "1023 B");
    assert_eq!(human_size(1024), "1.00 KiB");
    assert_eq!(human_size(1_048_575), "1.00 MiB");
    assert_eq!(human_size(u64::MAX), "16.0 EiB");
}

#[test]
fn durability_reads_what_it_writes() {
    for text in ["sync", "none", "interval:250"] {
        assert_eq!(parse_durability(text).map(durability_text).as_deref(), Ok(text));
    }
    for wrong in ["", "interval", "interval:", "interval:0", "interval:-1", "SYNC"] {
        assert!(parse_durability(wrong).is_err(), "{wrong}");
    }
}
