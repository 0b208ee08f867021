use super::*;

#[test]
fn urls_lead_to_addresses_without_credentials() {
    for (url, address) in [
        ("postgres://user:s3cret@db.example:5433/app", "db.example:5433/app"),
        ("postgres://user:s3cret@a,b:1234/app?sslmode=verify-full", "a:5432,b:1234/app"),
        ("host=a port=7 user=u password=s3cret dbname=d", "a:7/d"),
        ("postgres://u:s3cret@a/d?unknown=s3cret", "(not understood)"),
        ("postgres://s3cret", "s3cret:5432/"),
        ("dbname=d password=s3cret", "(not understood)"),
    ] {
        assert_eq!(address_of_url(url), address);
    }
    let refused = parse("postgres://u:s3cret@a/d?s3cret=1").unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
}
