//! How fast objects go from a folder to S3, beside rclone.

use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::migration::{Migration, MigrationOptions};
use sira_store::{FilesystemBackend, StorageBackend, StorageOptions};

use super::history::key;
use super::objects;
use super::side::Side;
use crate::support::{env, unique};

const VALUE_BYTES: usize = 16 << 10;
const ROUNDS: usize = 3;
/// Objects that both have under way.
const TRANSFERS: usize = 32;

/// `SIRA_MIGRATION_OBJECTS=10000 cargo test -p sira-backends --features all --test it -- --ignored
/// --nocapture migration::speed`; needs rclone.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, and needs rclone"]
async fn from_a_folder_to_s3_beside_rclone() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, plain) = (folder.path().join("stored"), folder.path().join("plain"));
    std::fs::create_dir(&plain).unwrap();
    let source: Arc<dyn StorageBackend> = Arc::new(FilesystemBackend::new(&stored).unwrap());
    let mut random = SeededRandom::new(1);
    for number in 0..objects() {
        let value: Bytes =
            (0..VALUE_BYTES / 8).flat_map(|_| random.next_u64().to_le_bytes()).collect();
        std::fs::write(plain.join(key(number)), &value).unwrap();
        source.put(&key(number), value, StorageOptions::default()).await.unwrap();
    }
    for round in 0..ROUNDS {
        let side = Side::new("s3", folder.path());
        let target = side.open().await;
        let options = MigrationOptions { concurrency: TRANSFERS, ..MigrationOptions::default() };
        let migration = Migration::new(Arc::clone(&source), target, options).unwrap();
        let began = SystemEnv.monotonic();
        let report = migration.run().await.unwrap();
        let sira = (SystemEnv.monotonic() - began).as_secs_f64();
        assert_eq!(report.copied, objects());
        side.drop().await;

        let prefix = unique("rclone");
        let began = SystemEnv.monotonic();
        rclone(&["copy", plain.to_str().unwrap()], &prefix);
        let rclone_took = (SystemEnv.monotonic() - began).as_secs_f64();
        rclone(&["purge"], &prefix);
        println!(
            "round {round}: {} objects of {VALUE_BYTES} bytes: {:.0} a second, rclone {:.0}, {:.2}x",
            objects(),
            objects() as f64 / sira,
            objects() as f64 / rclone_took,
            rclone_took / sira
        );
    }
}

fn rclone(arguments: &[&str], prefix: &str) {
    let status = Command::new("rclone")
        .args(arguments)
        .arg(format!("sira:{}/{prefix}", env("SIRA_TEST_S3_BUCKET")))
        .args(["--transfers", &TRANSFERS.to_string(), "--checkers", &TRANSFERS.to_string()])
        .args(["--s3-no-check-bucket", "--config", "/dev/null"])
        // It refuses to run with one, and the server is asked without TLS.
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_CONFIG_SIRA_TYPE", "s3")
        .env("RCLONE_CONFIG_SIRA_PROVIDER", "Other")
        .env("RCLONE_CONFIG_SIRA_ENDPOINT", env("SIRA_TEST_S3_ENDPOINT"))
        .env("RCLONE_CONFIG_SIRA_REGION", env("SIRA_TEST_S3_REGION"))
        .env("RCLONE_CONFIG_SIRA_ACCESS_KEY_ID", env("SIRA_TEST_S3_ACCESS_KEY_ID"))
        .env("RCLONE_CONFIG_SIRA_SECRET_ACCESS_KEY", env("SIRA_TEST_S3_SECRET_ACCESS_KEY"))
        .status()
        .unwrap();
    assert!(status.success(), "rclone {arguments:?}");
}
