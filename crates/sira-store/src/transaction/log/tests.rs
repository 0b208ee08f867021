//! Transactions over several backends: what is kept, what is seen, and what crashes leave.

mod crashes;
mod overlay;
mod process;

use std::sync::Arc;

use bytes::Bytes;

use super::TransactionLog;
use super::record::{Put, Write, decode, encode};
use crate::env::{Env, SimEnv};
use crate::error::StorageError;
use crate::metadata::Metadata;
use crate::version::Version;

fn env(seed: u64) -> Arc<dyn Env> {
    Arc::new(SimEnv::new(seed, 1_700_000_000_000))
}

fn writes() -> Vec<Write> {
    let metadata = Metadata { content_type: Some("text/plain".into()), ..Metadata::default() };
    let put = Put { value: Bytes::from("five"), expires_at_ms: Some(1_900_000_000_000), metadata };
    vec![
        Write {
            namespace: "shop".into(),
            key: "stock".to_owned(),
            version: Version::from_u64(0x0018_bcfe_5680_0001),
            put: Some(put),
        },
        Write {
            namespace: "orders".into(),
            key: "order:1".to_owned(),
            version: Version::from_u64(0x0018_bcfe_5680_0002),
            put: None,
        },
    ]
}

/// Bytes of format 1, which every later version reads.
const GOLDEN: &str = "5354584e010200000004000000\
    73686f70\
    05000000\
    73746f636b\
    0100805\
    6febc1800\
    01\
    0038d360ba010000\
    0e000000\
    00000a00746578742f706c61696e\
    04000000\
    66697665\
    06000000\
    6f7264657273\
    07000000\
    6f726465723a31\
    0200805\
    6febc1800\
    00";

#[test]
fn records_are_as_they_were() {
    let encoded = encode(&writes()).unwrap();
    let (body, sum) = encoded.split_last_chunk::<4>().unwrap();
    let text: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(text, GOLDEN);
    assert_eq!(u32::from_le_bytes(*sum), crc32c::crc32c(body));
    assert_eq!(decode(&encoded).unwrap(), writes());
}

#[test]
fn damage_is_found() {
    let encoded = encode(&writes()).unwrap();
    for cut in 0..encoded.len() {
        assert!(matches!(decode(&encoded.slice(..cut)), Err(StorageError::Corrupt(_))), "{cut}");
    }
    for bit in 0..encoded.len() * 8 {
        let mut bytes = encoded.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(decode(&bytes.into()), Err(StorageError::Corrupt(_))), "bit {bit}");
    }
    let mut newer = encoded[..encoded.len() - 4].to_vec();
    newer[4] = 2;
    newer.extend(crc32c::crc32c(&newer).to_le_bytes());
    assert!(matches!(decode(&newer.into()), Err(StorageError::Unsupported(_))));
}

#[tokio::test]
async fn an_engine_without_steps_over_namespaces_keeps_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let options = crate::filesystem::FilesystemOptions::new(folder.path());
    let files = Arc::new(crate::filesystem::FilesystemBackend::open(options).unwrap());
    let refused = TransactionLog::open(files, env(1)).await.unwrap_err();
    assert!(matches!(refused, StorageError::Unsupported(_)), "{refused}");
}
