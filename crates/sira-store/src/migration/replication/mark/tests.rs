use std::path::PathBuf;

use bytes::Bytes;

use super::Mark;
use crate::changes::ChangePosition;

/// Format 1: every later version must read these bytes.
#[test]
fn format_1_is_read_and_written() {
    let file: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "ledger-v1", "mark"].iter().collect();
    let mark = Mark { passing: true, position: ChangePosition(Bytes::from_static(b"a place")) };
    if std::env::var_os("SIRA_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, mark.encode()).unwrap();
    }
    let golden = std::fs::read(&file).unwrap();
    assert_eq!(mark.encode(), golden);
    assert_eq!(Mark::decode(&golden).unwrap(), mark);
    for at in 0..golden.len() {
        assert!(Mark::decode(&golden[..at]).is_err(), "{at} bytes");
        let mut bad = golden.clone();
        bad[at] ^= 1;
        assert!(Mark::decode(&bad).is_err(), "byte {at}");
    }
}
