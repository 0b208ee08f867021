use super::super::tests::{one, right};
use super::*;

#[test]
fn capacity_has_intervals() {
    let text = "[capacity]\nsample_interval = \"10m\"\ncount_interval = \"0s\"\n\
                count_objects_per_second = 5\nhorizon = \"90d\"";
    let capacity = right(text).capacity;
    assert_eq!(capacity.sample_interval, Duration::from_secs(600));
    assert_eq!((capacity.count_interval, capacity.count_objects_per_s), (Duration::ZERO, 5));
    assert_eq!(capacity.horizon, Duration::from_secs(90 * 86_400));
    for (text, message) in [
        ("sample_interval = \"10ms\"", "2:19: capacity.sample_interval is from 1s to 1d"),
        ("sample_interval = \"2d\"", "2:19: capacity.sample_interval is from 1s to 1d"),
        (
            "count_interval = \"1ms\"",
            "2:18: capacity.count_interval is at least 1s, or 0s for never",
        ),
        ("horizon = \"0s\"", "2:11: capacity.horizon is from 1s to 1825d"),
    ] {
        assert_eq!(one(&format!("[capacity]\n{text}")).0, message);
    }
    let (message, hint) = one("[capacity]\nsample_intervall = \"1h\"");
    assert_eq!(message, "2:1: unknown setting \"capacity.sample_intervall\"");
    assert_eq!(hint, "capacity.sample_interval");
}

#[test]
fn costs_have_prices() {
    let text = "[storage.backends.memory]\n[cost]\ncurrency = \"EUR\"\nper_gib_month = 0.1\n\
                [cost.backends.memory]\nper_million_reads = 4\n[cost.backends.embedded]\n";
    let cost = right(text).cost;
    assert_eq!(cost.currency.as_deref(), Some("EUR"));
    let base = PriceList { per_gib_month: 0.1, ..PriceList::default() };
    assert_eq!(cost.prices, Some(base));
    // What a section leaves out is that of all.
    let own = PriceList { per_million_reads: 4.0, ..base };
    assert_eq!((cost.prices_of("memory"), cost.prices_of("embedded")), (Some(own), Some(base)));
    assert_eq!(right("[cost]\ncurrency = \"EUR\"").cost.prices, None);
    for (text, message) in [
        ("per_gib_month = -1", "2:17: cost.per_gib_month is a number, 0 or more"),
        ("per_gib_read = nan", "2:16: cost.per_gib_read is a number, 0 or more"),
        ("per_million_reads = inf", "2:21: cost.per_million_reads is a number, 0 or more"),
        ("currency = \"\"", "2:12: cost.currency is a text in quotes, such as \"EUR\""),
        ("currency = 5", "2:12: cost.currency is a text in quotes, such as \"EUR\""),
    ] {
        assert_eq!(one(&format!("[cost]\n{text}")).0, message);
    }
    let (message, hint) =
        one("[storage.backends.memory]\n[cost.backends.memmory]\nper_gib_month = 1");
    assert_eq!(message, "2:16: there is no backend \"memmory\"");
    assert_eq!(hint, "\"memory\"");
    let (message, hint) = one("[cost]\nper_gb_month = 1");
    assert_eq!(message, "2:1: unknown setting \"cost.per_gb_month\"");
    assert_eq!(hint, "cost.per_gib_month");
    let (message, _) = one("[cost.backends.embedded]\nper_million_writes = -0.5");
    assert_eq!(message, "2:22: cost.backends.embedded.per_million_writes is a number, 0 or more");
}
