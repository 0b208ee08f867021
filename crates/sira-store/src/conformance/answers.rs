//! What a backend says of itself, and the options that it takes.

use super::context::{Context, ensure, fails, same, works};
use super::suite::Verdict;
use crate::backend::HealthStatus;
use crate::options::{
    CompressionType, ConsistencyLevel, Durability, EncryptionType, StorageOptions,
};

pub(super) async fn capabilities(cx: Context) -> Verdict {
    let declared = cx.backend.capabilities();
    ensure!(!declared.name.is_empty(), "expected a name of the engine, saw none");
    ensure!(declared.value_bytes_max > 0, "expected values to be allowed, saw a limit of 0 bytes");
    same("capabilities when asked again", &cx.backend.capabilities(), &declared)?;
    // What is not declared says so.
    if !declared.namespaces {
        let result = cx.backend.namespace("conformance").await.map(|_| ());
        fails("a namespace", result, &["unsupported"])?;
    }
    if !declared.list {
        fails("a listing", cx.backend.list_keys(&cx.tag, 1).await, &["unsupported"])?;
    }
    Ok(())
}

pub(super) async fn stats_and_health(cx: Context) -> Verdict {
    cx.put(&cx.key("k"), "v").await?;
    works("flush", "", cx.backend.flush().await)?;
    works("stats", "", cx.backend.stats().await)?;
    match cx.backend.health_check().await {
        HealthStatus::Healthy | HealthStatus::Warning(_) => Ok(()),
        HealthStatus::Critical(reason) => {
            Err(format!("expected a backend that works, saw it critical: {reason}"))
        }
    }
}

pub(super) async fn options(cx: Context) -> Verdict {
    let plain = StorageOptions::default;
    let mut taken = Vec::new();
    for consistency in
        [ConsistencyLevel::Strong, ConsistencyLevel::Eventual, ConsistencyLevel::Weak]
    {
        taken.push(StorageOptions { consistency, ..plain() });
    }
    for durability in [Durability::Sync, Durability::Interval(50), Durability::None] {
        taken.push(StorageOptions { durability: Some(durability), ..plain() });
    }
    let key = cx.key("k");
    for (number, options) in taken.into_iter().enumerate() {
        let value = format!("value {number}");
        cx.put_with(&key, value.clone(), options).await?;
        cx.holds(&key, value.as_bytes()).await?;
    }

    // Done and undone again, or refused.
    let key_id = || "conformance".to_owned();
    let transforms = [
        StorageOptions { compression: CompressionType::Gzip, ..plain() },
        StorageOptions { compression: CompressionType::Zstd, ..plain() },
        StorageOptions { compression: CompressionType::Lz4, ..plain() },
        StorageOptions { compression: CompressionType::Auto, ..plain() },
        StorageOptions { encryption: EncryptionType::Aes256Gcm { key_id: key_id() }, ..plain() },
        StorageOptions {
            encryption: EncryptionType::ChaCha20Poly1305 { key_id: key_id() },
            ..plain()
        },
    ];
    for (number, options) in transforms.into_iter().enumerate() {
        let key = cx.key(number);
        let result = cx.backend.put(&key, "value".into(), options.clone()).await;
        if result.is_ok() {
            cx.holds(&key, b"value").await?;
        } else {
            // A key that is not in the keyring is the caller's mistake.
            fails(&format!("{options:?}"), result, &["unsupported", "invalid_input"])?;
            cx.absent(&key).await?;
        }
    }
    Ok(())
}
