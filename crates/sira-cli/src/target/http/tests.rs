use super::*;

#[test]
fn keys_are_written_so_that_the_server_reads_them_back() {
    let encode = |key: &str| utf8_percent_encode(key, PATH).to_string();
    assert_eq!(encode("a/b c?d#e%f"), "a/b%20c%3Fd%23e%25f");
    assert_eq!(encode("é+&"), "%C3%A9%2B%26");
    assert_eq!(encode("//a"), "//a");
}

#[test]
fn only_addresses_of_this_machine_are_loopback() {
    for server in
        ["http://127.0.0.1:9095", "http://localhost", "http://[::1]:1", "http://127.9.9.9"]
    {
        assert!(is_loopback(server), "{server}");
    }
    for server in ["http://10.0.0.1:9095", "http://localhost.example", "http://[fe80::1]:1"] {
        assert!(!is_loopback(server), "{server}");
    }
}

#[test]
fn a_file_that_changes_its_length_is_refused() {
    let read = |bytes: &[u8], len| {
        let mut source = bytes;
        let mut out = Vec::new();
        Exact { reader: &mut source, left: len }.read_to_end(&mut out).map(|_| out)
    };
    assert_eq!(read(b"abc", Some(3)).unwrap(), b"abc");
    assert_eq!(read(b"abc", None).unwrap(), b"abc");
    assert!(read(b"abc", Some(4)).is_err());
    assert!(read(b"abc", Some(2)).is_err());
}
