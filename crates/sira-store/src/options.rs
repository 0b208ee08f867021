//! What a caller may ask of a write.

use std::time::Duration;

use crate::error::{Result, StorageError};
use crate::metadata::Metadata;
use crate::version::Version;

/// What is promised about reads after a write, where a backend has replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsistencyLevel {
    /// Every later read sees the write.
    #[default]
    Strong,
    /// Reads see the write after a bounded time.
    Eventual,
    /// Reads may see any earlier state.
    Weak,
}

/// How a value is compressed before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CompressionType {
    /// Stored as it is.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// LZ4 blocks.
    Lz4,
    /// Decided for each value from a sample of it: Zstandard, LZ4 or nothing.
    Auto,
}

/// How a value is encrypted before it is stored. The key comes from a keyring by its id; nobody
/// passes key material or a nonce.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EncryptionType {
    /// Stored as it is.
    #[default]
    None,
    /// AES-256 in Galois/counter mode.
    Aes256Gcm {
        /// Name of the key in the keyring.
        key_id: String,
    },
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 {
        /// Name of the key in the keyring.
        key_id: String,
    },
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    /// After an fsync that covers it.
    Sync,
    /// At once; an fsync follows within this many milliseconds. A crash of the machine can lose
    /// the writes of that time, a crash of the process loses none.
    Interval(u64),
    /// At once; the operating system writes back when it likes. A crash of the machine can lose
    /// what was not written back, a crash of the process loses none.
    None,
}

/// What must hold for a write to take effect; checked and applied as one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// Nothing.
    #[default]
    Always,
    /// The key holds no object.
    IfAbsent,
    /// The key holds an object, of any version.
    IfPresent,
    /// The key holds the object of this version.
    IfMatch(Version),
    /// The key holds no object of this version.
    IfNoneMatch(Version),
}

impl Condition {
    /// Whether the condition holds for the version that a key holds now.
    #[must_use]
    pub fn holds(self, current: Option<Version>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => current.is_none(),
            Self::IfPresent => current.is_some(),
            Self::IfMatch(version) => current == Some(version),
            Self::IfNoneMatch(version) => current != Some(version),
        }
    }

    /// Checks the condition against the version that a key holds now.
    ///
    /// # Errors
    /// [`StorageError::PreconditionFailed`] when it does not hold.
    pub fn require(self, current: Option<Version>) -> Result<()> {
        if self.holds(current) {
            return Ok(());
        }
        let wanted = match self {
            Self::Always | Self::IfNoneMatch(_) => "another version".to_owned(),
            Self::IfAbsent => "no object".to_owned(),
            Self::IfPresent => "an object".to_owned(),
            Self::IfMatch(version) => format!("version {version}"),
        };
        let held = current.map_or("no object".to_owned(), |version| format!("version {version}"));
        Err(StorageError::precondition_failed(format!(
            "the key holds {held} where {wanted} was demanded; read it again and decide anew"
        )))
    }
}

/// Options of one write. The default writes the bytes as they are, for ever, whatever was there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StorageOptions {
    /// Time after which the object is gone.
    pub ttl: Option<Duration>,
    /// When the object is gone, in milliseconds since the Unix epoch, where the caller has reckoned
    /// it: a copy that keeps its expiry. In place of `ttl`; both together are refused.
    pub expires_at_ms: Option<u64>,
    /// Compression before storing.
    pub compression: CompressionType,
    /// How hard to compress: 1 to 9 for gzip, -7 to 22 for Zstandard, which [`CompressionType::Auto`]
    /// may choose. `None` is the codec's own level; LZ4 has one only.
    pub compression_level: Option<i32>,
    /// Encryption before storing.
    pub encryption: EncryptionType,
    /// What later reads must see.
    pub consistency: ConsistencyLevel,
    /// What must hold for the write to take effect.
    pub condition: Condition,
    /// What is kept beside the bytes.
    pub metadata: Metadata,
    /// When the write is answered; `None` follows the backend's setting.
    pub durability: Option<Durability>,
    /// Version to store, where the caller has drawn it: a copy that keeps its version, or a value
    /// that is bound to it. Refused with [`StorageError::Conflict`] unless it is greater than the
    /// version that the key holds. `None` lets the backend draw one.
    pub version: Option<Version>,
}
