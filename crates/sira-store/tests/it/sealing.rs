//! Compressed and encrypted values over the engines conform like plain ones.

use std::sync::Arc;

use sira_store::conformance::{self, ConformanceOptions};
use sira_store::embedded::{EmbeddedBackend, Engine, EngineOptions};
use sira_store::seal::{Keyring, SealOptions};
use sira_store::{
    CompressionType, Durability, EncryptionType, MemoryBackend, SealingBackend, StorageBackend,
};

fn sealing(
    inner: Arc<dyn StorageBackend>,
    compression: CompressionType,
    encryption: EncryptionType,
) -> Arc<SealingBackend> {
    // The suite asks for a key of this id as well.
    let key = Keyring::generate_key().unwrap();
    let keyring = Arc::new(Keyring::new("conformance", key).unwrap());
    let defaults = SealOptions { compression, encryption, compression_level: None };
    Arc::new(SealingBackend::new(inner, "default", keyring, defaults))
}

async fn conforms(backend: Arc<dyn StorageBackend>) {
    let report = conformance::run(backend, ConformanceOptions::default()).await;
    let report = report.into_result().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(report.skipped, []);
}

fn embedded() -> (tempfile::TempDir, Arc<EmbeddedBackend>) {
    let folder = tempfile::tempdir().unwrap();
    let options = EngineOptions { durability: Durability::None, ..EngineOptions::default() };
    let engine = Engine::open(folder.path(), options).unwrap();
    (folder, Arc::new(EmbeddedBackend::new(engine)))
}

macro_rules! conforming {
    ($($name:ident: $compression:ident, $encryption:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let compression = CompressionType::$compression;
                let memory = MemoryBackend::new(1 << 30);
                conforms(sealing(Arc::new(memory.clone()), compression, $encryption)).await;
                assert_eq!(memory.stats().await.unwrap().keys, 0);
                let (_folder, engine) = embedded();
                conforms(sealing(engine, compression, $encryption)).await;
            }
        )*
    };
}

fn aes() -> EncryptionType {
    EncryptionType::Aes256Gcm { key_id: String::new() }
}

fn chacha() -> EncryptionType {
    EncryptionType::ChaCha20Poly1305 { key_id: String::new() }
}

conforming! {
    nothing: None, EncryptionType::None;
    zstd: Zstd, EncryptionType::None;
    gzip: Gzip, EncryptionType::None;
    lz4: Lz4, EncryptionType::None;
    auto: Auto, EncryptionType::None;
    aes_256_gcm: None, aes();
    chacha20_poly1305: None, chacha();
    zstd_and_aes_256_gcm: Zstd, aes();
}

/// Two wrappers with clocks and data keys of their own, over one engine.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peers_with_clocks_of_their_own() {
    let key = Keyring::generate_key().unwrap();
    let keyring = Arc::new(Keyring::new("conformance", key).unwrap());
    let memory = MemoryBackend::new(1 << 30);
    let peer = || -> Arc<dyn StorageBackend> {
        let defaults = SealOptions { encryption: aes(), ..SealOptions::default() };
        let inner = Arc::new(memory.clone());
        Arc::new(SealingBackend::new(inner, "default", Arc::clone(&keyring), defaults))
    };
    let options = ConformanceOptions { peers: vec![peer(), peer()], ..Default::default() };
    let report = conformance::run(peer(), options).await;
    report.into_result().unwrap_or_else(|error| panic!("{error}"));
}
