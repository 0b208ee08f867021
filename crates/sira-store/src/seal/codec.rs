//! Codecs: what makes segments smaller.

use std::io::{Read, Write};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;

use super::pool::{Press, give_back_decompressor, take_decompressor};
use crate::error::{Result, StorageError};
use crate::options::CompressionType;

/// Level of Zstandard where the caller names none.
const ZSTD_LEVEL: i32 = 3;

/// Level of Zstandard where the sample chose it: about as quick as reading it back.
const ZSTD_LEVEL_AUTO: i32 = 1;

/// Level of gzip where the caller names none.
const GZIP_LEVEL: i32 = 6;

/// Values of fewer bytes are not worth a look: their seal would take what compression gains.
const SAMPLED_BYTES_MIN: usize = 128;

/// Pieces of a value that are looked at.
const SAMPLE_PIECES: usize = 8;

/// Bytes of one piece.
const SAMPLE_PIECE_BYTES: usize = 4096;

/// What made the segments of a value smaller. Segments that did not shrink are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Nothing.
    None = 0,
    /// gzip (RFC 1952).
    Gzip = 1,
    /// Zstandard (RFC 8878).
    Zstd = 2,
    /// LZ4 blocks.
    Lz4 = 3,
}

impl Codec {
    /// The codec of this number; `None` for one that is none.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Zstd, Self::Lz4]
            .into_iter()
            .find(|codec| *codec as u8 == number)
    }

    /// The codec to use for a value, and its level.
    pub(super) fn choose(asked: CompressionType, level: Option<i32>, value: &[u8]) -> (Self, i32) {
        match asked {
            CompressionType::None => (Self::None, 0),
            CompressionType::Gzip => (Self::Gzip, level.unwrap_or(GZIP_LEVEL)),
            CompressionType::Zstd => (Self::Zstd, level.unwrap_or(ZSTD_LEVEL)),
            CompressionType::Lz4 => (Self::Lz4, 0),
            CompressionType::Auto => (Self::sampled(value), level.unwrap_or(ZSTD_LEVEL_AUTO)),
        }
    }

    /// The codec that pays for a value, by a sample of it: LZ4 where it makes the sample about as
    /// small as Zstandard does, since it is quicker both ways.
    fn sampled(value: &[u8]) -> Self {
        if value.len() < SAMPLED_BYTES_MIN {
            return Self::None;
        }
        let sample = sample(value);
        let mut sizes = [0, 0];
        for (size, codec) in sizes.iter_mut().zip([Self::Zstd, Self::Lz4]) {
            let mut encoder = Encoder::new(codec, ZSTD_LEVEL_AUTO);
            *size = encoder.encode(&sample).map_or(sample.len(), <[u8]>::len);
        }
        let [zstd, lz4] = sizes;
        // A twentieth less is the least that is worth undoing it at each read.
        if zstd.min(lz4) > sample.len() - sample.len() / 20 {
            return Self::None;
        }
        if lz4.saturating_sub(zstd) <= sample.len() / 20 { Self::Lz4 } else { Self::Zstd }
    }
}

/// Whether a sample of a value shrinks.
pub(crate) fn worth_compressing(value: &[u8]) -> bool {
    Codec::sampled(value) != Codec::None
}

/// Pieces of a value from its start to its end, or all of a short one.
fn sample(value: &[u8]) -> Vec<u8> {
    if value.len() <= SAMPLE_PIECES * SAMPLE_PIECE_BYTES {
        return value.to_vec();
    }
    let last = value.len() - SAMPLE_PIECE_BYTES;
    (0..SAMPLE_PIECES)
        .map(|number| last / (SAMPLE_PIECES - 1) * number)
        .filter_map(|at| value.get(at..at + SAMPLE_PIECE_BYTES))
        .flatten()
        .copied()
        .collect()
}

/// Checks that a level is one of the codec.
///
/// # Errors
/// [`StorageError::InvalidInput`] when it is not.
pub fn check_level(compression: CompressionType, level: Option<i32>) -> Result<()> {
    let Some(level) = level else { return Ok(()) };
    let levels = match compression {
        CompressionType::Gzip => 1..=9,
        CompressionType::Zstd | CompressionType::Auto => -7..=22,
        CompressionType::None | CompressionType::Lz4 => {
            return Err(StorageError::invalid_input(
                "a compression level goes with gzip, Zstandard or auto; leave it out",
            ));
        }
    };
    if levels.contains(&level) {
        return Ok(());
    }
    Err(StorageError::invalid_input(format!(
        "the compression level {level} is not between {} and {}",
        levels.start(),
        levels.end()
    )))
}

/// Makes segments smaller, one after the other.
pub(super) struct Encoder {
    codec: Codec,
    level: i32,
    press: Option<Press>,
    buffer: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(codec: Codec, level: i32) -> Self {
        Self { codec, level, press: None, buffer: Vec::new() }
    }

    /// The segment, smaller than it is; `None` where the codec does not make it so.
    pub(super) fn encode(&mut self, plain: &[u8]) -> Option<&[u8]> {
        let encoded = match self.codec {
            Codec::None => None,
            Codec::Gzip => {
                self.buffer.clear();
                let level = flate2::Compression::new(self.level.unsigned_abs());
                let mut encoder = GzEncoder::new(&mut self.buffer, level);
                encoder.write_all(plain).ok()?;
                encoder.finish().ok()?;
                Some(self.buffer.as_slice())
            }
            Codec::Zstd => {
                if self.press.is_none() {
                    self.press = Press::take(self.level);
                }
                let Press { zstd, buffer, .. } = self.press.as_mut()?;
                if buffer.len() < plain.len() {
                    buffer.resize(plain.len(), 0);
                }
                // What does not fit did not shrink.
                let room = buffer.get_mut(..plain.len())?;
                let len = zstd.compress_to_buffer(plain, room).ok()?;
                room.get(..len)
            }
            Codec::Lz4 => {
                self.buffer.resize(lz4_flex::block::get_maximum_output_size(plain.len()), 0);
                let len = lz4_flex::block::compress_into(plain, &mut self.buffer).ok()?;
                self.buffer.get(..len)
            }
        };
        encoded.filter(|encoded| encoded.len() < plain.len())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        if let Some(press) = self.press.take() {
            press.give_back();
        }
    }
}

/// Undoes an [`Encoder`].
#[derive(Default)]
pub(super) struct Decoder {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Decoder {
    /// Fills `plain` from an encoded segment; `false` unless that gives exactly as many bytes. Never
    /// takes more memory than `plain`, whatever the segment claims.
    pub(super) fn decode(&mut self, codec: Codec, encoded: &[u8], plain: &mut [u8]) -> bool {
        let len = match codec {
            Codec::None => None,
            Codec::Gzip => return gunzip(encoded, plain).unwrap_or(false),
            Codec::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = take_decompressor();
                }
                let decoder = self.zstd.as_mut();
                decoder.and_then(|decoder| decoder.decompress_to_buffer(encoded, plain).ok())
            }
            Codec::Lz4 => lz4_flex::block::decompress_into(encoded, plain).ok(),
        };
        len == Some(plain.len())
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Some(zstd) = self.zstd.take() {
            give_back_decompressor(zstd);
        }
    }
}

fn gunzip(encoded: &[u8], plain: &mut [u8]) -> std::io::Result<bool> {
    let mut decoder = GzDecoder::new(encoded);
    decoder.read_exact(plain)?;
    // The checksum behind the data is compared when the end is read.
    let ended = decoder.read(&mut [0])? == 0;
    Ok(ended && decoder.into_inner().is_empty())
}
