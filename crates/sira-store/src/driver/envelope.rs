//! What describes an object of an outside engine, beside version, expiry and size.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Result, StorageError};
use crate::limits::BLOCK_BYTES;

/// Version of the layout.
const FORMAT: u8 = 1;

/// Bytes before metadata and checksums.
const HEAD_BYTES: usize = 28;

/// Most checksums: those of the largest value.
const CHECKSUMS_MAX: usize = 1 << 16;

/// Metadata, checksums, and where the value lies. `docs/formats/envelope.md` draws it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Envelope {
    /// Encoded [`crate::Metadata`].
    pub(super) metadata: Bytes,
    /// Where the value lies, if not in the record.
    pub(super) chunks: Option<Manifest>,
    /// CRC-32C of every [`BLOCK_BYTES`] of the value.
    pub(super) checksums: Vec<u32>,
}

/// The chunks that a value lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Number that the chunks of this write have in common, and no others.
    pub(super) generation: u64,
    /// Bytes of each but the last; a multiple of [`BLOCK_BYTES`].
    pub(super) bytes: u32,
}

impl Envelope {
    pub(super) fn new(metadata: Vec<u8>, value: &[u8]) -> Self {
        let checksums = value.chunks(BLOCK_BYTES).map(crc32c::crc32c).collect();
        Self { metadata: metadata.into(), chunks: None, checksums }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out =
            BytesMut::with_capacity(HEAD_BYTES + self.metadata.len() + 4 * self.checksums.len());
        let chunks = self.chunks.unwrap_or(Manifest { generation: 0, bytes: 0 });
        out.put_u8(FORMAT);
        out.put_slice(&[0; 3]);
        out.put_u32_le(chunks.bytes);
        out.put_u64_le(chunks.generation);
        out.put_u32_le(u32::try_from(self.metadata.len()).unwrap_or(u32::MAX));
        out.put_u32_le(u32::try_from(self.checksums.len()).unwrap_or(u32::MAX));
        let checksum_at = out.len();
        out.put_u32_le(0);
        out.put_slice(&self.metadata);
        for checksum in &self.checksums {
            out.put_u32_le(*checksum);
        }
        // Of everything else, with zeros in its own place.
        let checksum = crc32c::crc32c(&out);
        out[checksum_at..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out.freeze()
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self> {
        let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
            return Err(malformed("it is shorter than its head"));
        };
        if head[0] != FORMAT {
            return Err(StorageError::unsupported(format!(
                "the stored envelope has format {}, this version reads {FORMAT}",
                head[0]
            )));
        }
        let u32_at =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let generation = u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32;
        let (metadata_bytes, checksums) = (u32_at(16) as usize, u32_at(20) as usize);
        if checksums > CHECKSUMS_MAX
            || bytes.len() != HEAD_BYTES + metadata_bytes.saturating_add(4 * checksums)
        {
            return Err(malformed("its lengths do not add up"));
        }
        let sum = crc32c::crc32c(&bytes[..HEAD_BYTES - 4]);
        let sum = crc32c::crc32c_append(sum, &[0; 4]);
        if crc32c::crc32c_append(sum, &bytes[HEAD_BYTES..]) != u32_at(24) {
            return Err(malformed("it does not match its checksum"));
        }
        let metadata_end = HEAD_BYTES + metadata_bytes;
        let (sums, _) = bytes[metadata_end..].as_chunks::<4>();
        let chunk_bytes = u32_at(4);
        let chunks = (chunk_bytes != 0).then_some(Manifest { generation, bytes: chunk_bytes });
        if chunks.is_some() && !(chunk_bytes as usize).is_multiple_of(BLOCK_BYTES) {
            return Err(malformed("its chunks are not made of whole blocks"));
        }
        Ok(Self {
            metadata: bytes.slice(HEAD_BYTES..metadata_end),
            chunks,
            checksums: sums.iter().map(|sum| u32::from_le_bytes(*sum)).collect(),
        })
    }

    /// Checks bytes of the value that begin with block number `first`.
    pub(super) fn verify(&self, first: usize, bytes: &[u8]) -> Result<()> {
        let expected = self.checksums.get(first..).unwrap_or_default();
        for (number, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if expected.get(number) != Some(&crc32c::crc32c(block)) {
                let begin = (first + number) * BLOCK_BYTES;
                return Err(StorageError::corrupt(format!(
                    "bytes {begin} to {} of the stored value do not match their checksum; \
                     restore the object from a backup or write it again",
                    begin + block.len()
                )));
            }
        }
        Ok(())
    }
}

fn malformed(why: &str) -> StorageError {
    StorageError::corrupt(format!("the stored envelope is malformed: {why}"))
}

#[cfg(test)]
mod tests;
