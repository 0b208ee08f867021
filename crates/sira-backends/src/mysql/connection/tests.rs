use super::*;

#[test]
fn urls_lead_to_addresses_without_credentials() {
    for (url, address) in [
        ("mysql://user:s3cret@db.example:3307/app", "db.example:3307/app"),
        ("mysql://user:s3cret@a/app?require_ssl=true", "a:3306/app"),
        ("mysql://u:s3cret@a/d?unknown=s3cret", "(not understood)"),
        ("mysql://u:s3cret@a", "(not understood)"),
        ("postgres://u:s3cret@a/d", "(not understood)"),
    ] {
        assert_eq!(address_of_url(url), address);
    }
    let refused = parse("mysql://u:s3cret@a/d?s3cret=1").unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{refused:?}");
}
