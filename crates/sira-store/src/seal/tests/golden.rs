//! Values that every later version must open.
//!
//! They were made by this test with `SIRA_WRITE_GOLDEN=1`. A new format gets a folder of its own;
//! these files are not made again.

use std::path::PathBuf;

use super::{CODECS, OBJECT, ciphers, keyring, options, text};
use crate::limits::SEAL_SEGMENT_BYTES;
use crate::seal::{Seal, seal};

/// Bytes of the value: two segments.
const BYTES: usize = SEAL_SEGMENT_BYTES + 3000;

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "seal-v1"].iter().collect()
}

fn names() -> impl Iterator<Item = (String, crate::seal::SealOptions)> {
    CODECS[..4].iter().flat_map(|codec| {
        ciphers().into_iter().zip(["plain", "aes-256-gcm", "chacha20-poly1305"]).map(
            move |(cipher, name)| {
                (format!("{codec:?}-{name}").to_lowercase(), options(*codec, cipher))
            },
        )
    })
}

/// A value of which two segments lie in few bytes.
fn value() -> Vec<u8> {
    let mut value = vec![b'-'; BYTES];
    value[SEAL_SEGMENT_BYTES..].copy_from_slice(&text(3000));
    value
}

#[test]
fn what_version_1_stored_opens() {
    if std::env::var_os("SIRA_WRITE_GOLDEN").is_some() && !folder().exists() {
        write();
    }
    let mut opened = 0;
    for (name, _) in names().filter(|(name, _)| name != "none-plain") {
        let read = |end: &str| std::fs::read(folder().join(format!("{name}.{end}"))).unwrap();
        let seal = Seal::decode(&read("seal")).unwrap();
        let payload = read("payload");
        let value = if name.starts_with("none") { text(3000) } else { value() };
        assert_eq!(seal.open(&payload.into(), &keyring(), &OBJECT).unwrap(), value, "{name}");
        opened += 1;
    }
    assert_eq!(opened, 11);
}

fn write() {
    std::fs::create_dir(folder()).unwrap();
    for (name, options) in names() {
        let value = if name.starts_with("none") { text(3000) } else { value() };
        let Some(sealed) = seal(&value, &options, &keyring(), &OBJECT).unwrap() else { continue };
        let file = |end: &str| folder().join(format!("{name}.{end}"));
        std::fs::write(file("seal"), sealed.seal.encode().unwrap()).unwrap();
        std::fs::write(file("payload"), &sealed.payload).unwrap();
    }
}
