use super::*;

#[test]
fn signatures_are_those_of_any_hmac() {
    // printf '%s' '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
    let expected =
        "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
    assert_eq!(signature(b"secret", 1_700_000_000, b"{\"a\":1}"), expected);
}
