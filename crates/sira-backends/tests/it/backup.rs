//! Backups on real targets.

use std::sync::Arc;

use bytes::Bytes;
use sira_backends::object_store::{MinioBackend, S3Backend};
use sira_store::backup::{
    Backup, BackupSource, Prune, PruneOptions, Repository, RepositoryOptions, Restore,
    RestoreOptions, Verification, VerifyOptions,
};
use sira_store::env::SeededRandom;
use sira_store::seal::Keyring;
use sira_store::{
    EncryptionType, FilesystemBackend, MemoryBackend, StorageBackend, StorageClient, StorageOptions,
};

use crate::object_store::{minio, s3};
use crate::support::unique;

fn noise(seed: u64, len: usize) -> Bytes {
    let mut random = SeededRandom::new(seed);
    (0..len.div_ceil(8)).flat_map(|_| random.next_u64().to_le_bytes()).take(len).collect()
}

fn client() -> StorageClient {
    let client = StorageClient::new();
    client.register_backend("memory", Arc::new(MemoryBackend::new(1 << 30))).unwrap();
    client
}

/// Saves, changes, saves again, prunes, verifies and restores.
async fn holds_backups(target: Arc<dyn StorageBackend>) {
    let target = target.namespace("backups").await.unwrap();
    let client = client();
    for number in 0..200_u64 {
        let value = noise(number, (number * 211 % 30_000) as usize);
        client.store(&format!("key/{number}"), value, StorageOptions::default()).await.unwrap();
    }
    client.store("large", noise(1, 20 << 20), StorageOptions::default()).await.unwrap();
    let keyring = Arc::new(Keyring::new("k1", Keyring::generate_key().unwrap()).unwrap());
    let options = RepositoryOptions {
        encryption: EncryptionType::Aes256Gcm { key_id: String::new() },
        owner: "test".to_owned(),
        ..RepositoryOptions::default()
    };
    let repository = Repository::open(target, keyring, options).await.unwrap();
    let source = BackupSource::new(client.clone());
    let run = Backup::new(repository.clone(), source.clone(), Default::default());
    let first = run.run().await.unwrap();
    assert_eq!((first.objects, first.failed.len()), (201, 0));
    client.store("key/7", "new", StorageOptions::default()).await.unwrap();
    let second = run.run().await.unwrap();
    assert_eq!((second.objects, second.read), (201, 1));
    let remove = vec![first.snapshot.unwrap()];
    let prune = PruneOptions { remove, ..PruneOptions::default() };
    Prune::new(repository.clone(), prune).run().await.unwrap();
    let full = VerifyOptions { full: true, ..VerifyOptions::default() };
    let verified = Verification::new(repository.clone(), full).unwrap().run().await.unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    let other = self::client();
    let source = BackupSource::new(other.clone());
    let restored = Restore::new(repository, source, RestoreOptions::default()).run().await.unwrap();
    assert!(restored.is_complete() && restored.restored == 201, "{restored:?}");
    for key in client.list_keys("", 1000).await.unwrap() {
        let (here, there) = (client.retrieve(&key).await, other.retrieve(&key).await);
        assert_eq!(here.unwrap(), there.unwrap(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_holds_backups() {
    let folder = tempfile::tempdir().unwrap();
    holds_backups(Arc::new(FilesystemBackend::new(folder.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_holds_backups() {
    let backend = MinioBackend::new(minio(&unique("backup"))).await.unwrap();
    holds_backups(Arc::new(backend)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_holds_backups() {
    let backend = S3Backend::new(s3(&unique("backup"))).await.unwrap();
    holds_backups(Arc::new(backend)).await;
}
