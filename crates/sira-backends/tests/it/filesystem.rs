//! The filesystem driver, held to what the others are.

use std::sync::Arc;

use sira_store::driver::Driver;
use sira_store::filesystem::{FilesystemDriver, FilesystemOptions};

use crate::{contract, edges};

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_keeps_its_contract() {
    let root = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Driver> {
        Arc::new(FilesystemDriver::open(FilesystemOptions::new(root.path())).unwrap())
    };
    contract::check(&[open(), open()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_holds_at_the_edges() {
    let root = tempfile::tempdir().unwrap();
    let open = || FilesystemDriver::open(FilesystemOptions::new(root.path())).unwrap();
    edges::check(&open(), &open()).await;
}
