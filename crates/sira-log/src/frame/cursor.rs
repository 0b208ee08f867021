//! Reads frames, forward and backward.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

use super::BinaryLogFormat;

/// Bytes that a cursor can walk.
pub trait FrameSource {
    /// Length in bytes.
    ///
    /// # Errors
    /// The source's error.
    fn len(&mut self) -> io::Result<u64>;

    /// Whether there are no bytes.
    ///
    /// # Errors
    /// The source's error.
    fn is_empty(&mut self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The bytes of a range that lies within [`FrameSource::len`].
    ///
    /// # Errors
    /// The source's error.
    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes>;
}

impl FrameSource for &[u8] {
    fn len(&mut self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        start
            .checked_add(len)
            .and_then(|end| self.get(start..end))
            .map(Bytes::copy_from_slice)
            .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl FrameSource for Bytes {
    fn len(&mut self) -> io::Result<u64> {
        Ok(Bytes::len(self) as u64)
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        match start.checked_add(len) {
            Some(end) if end <= Bytes::len(self) => Ok(self.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl FrameSource for std::sync::Arc<dyn crate::disk::DiskFile> {
    fn len(&mut self) -> io::Result<u64> {
        Ok(crate::disk::DiskFile::len(&**self))
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        crate::disk::DiskFile::read(&**self, offset, len)
    }
}

/// A seekable reader as a source.
#[derive(Debug)]
pub struct ReaderSource<R>(pub R);

impl<R: Read + Seek> FrameSource for ReaderSource<R> {
    fn len(&mut self) -> io::Result<u64> {
        self.0.seek(SeekFrom::End(0))
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// A frame whose checksum matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where its magic starts.
    pub start: u64,
    /// Where the next frame starts.
    pub end: u64,
    /// The envelope.
    pub envelope: Bytes,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The source failed.
    #[error("cannot read the log: {0}")]
    Io(#[from] io::Error),
    /// The bytes end within a frame.
    #[error("the bytes end within the frame at byte {start}")]
    Truncated {
        /// Where the frame starts.
        start: u64,
    },
    /// There is no frame here: the magic, or the two lengths, do not match.
    #[error("no frame at byte {start}: {detail}")]
    NotAFrame {
        /// Where a frame was looked for.
        start: u64,
        /// What did not match.
        detail: &'static str,
    },
    /// A whole frame is here and its checksum does not match.
    #[error("the frame from byte {start} to {end} fails its checksum")]
    Checksum {
        /// Where the frame starts.
        start: u64,
        /// Where the next one starts.
        end: u64,
    },
}

/// Walks the frames of a source in both directions.
///
/// The cursor stands between two frames. After an error it stays where it was.
#[derive(Debug)]
pub struct BinaryLogCursor<S> {
    source: S,
    position: u64,
}

impl<S: FrameSource> BinaryLogCursor<S> {
    /// A cursor before the first frame.
    pub fn at_start(source: S) -> Self {
        Self { source, position: 0 }
    }

    /// A cursor after the last frame.
    ///
    /// # Errors
    /// The source's error.
    pub fn at_end(mut source: S) -> io::Result<Self> {
        let position = source.len()?;
        Ok(Self { source, position })
    }

    /// Where the cursor stands.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Moves the cursor to a place where a frame starts or ends.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// Reads the frame after the cursor and steps over it; `None` at the end.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let start = self.position;
        let len = self.source.len()?;
        if start >= len {
            return Ok(None);
        }
        let frame = self.frame_at(start, len)?;
        self.position = frame.end;
        Ok(Some(frame))
    }

    /// Reads the frame before the cursor and steps back over it; `None` at the start.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn previous_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let end = self.position;
        if end == 0 {
            return Ok(None);
        }
        let overhead = (BinaryLogFormat::HEAD_BYTES + BinaryLogFormat::TAIL_BYTES) as u64;
        if end < overhead {
            return Err(FrameError::Truncated { start: 0 });
        }
        let env_len = read_u32(&self.source.read(end - 8, 4)?)?;
        let Some(start) = end.checked_sub(BinaryLogFormat::frame_len(u64::from(env_len))) else {
            return Err(FrameError::NotAFrame {
                start: 0,
                detail: "the length before the checksum reaches over the start",
            });
        };
        let frame = self.frame_at(start, end)?;
        if frame.end != end {
            return Err(FrameError::NotAFrame { start, detail: "the two lengths differ" });
        }
        self.position = start;
        Ok(Some(frame))
    }

    fn frame_at(&mut self, start: u64, len: u64) -> Result<Frame, FrameError> {
        if len - start < BinaryLogFormat::HEAD_BYTES as u64 {
            return Err(FrameError::Truncated { start });
        }
        let head = self.source.read(start, BinaryLogFormat::HEAD_BYTES)?;
        let head: [u8; 8] =
            head.as_ref().try_into().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let Some(env_len) = BinaryLogFormat::parse_head(head) else {
            return Err(FrameError::NotAFrame { start, detail: "the magic is not there" });
        };
        let total = BinaryLogFormat::frame_len(u64::from(env_len));
        if total > len - start {
            return Err(FrameError::Truncated { start });
        }
        let end = start + total;
        let body_len = usize::try_from(total - BinaryLogFormat::HEAD_BYTES as u64)
            .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let body = self.source.read(start + BinaryLogFormat::HEAD_BYTES as u64, body_len)?;
        let covered = body_len - 4;
        if read_u32(&body[covered - 4..covered])? != env_len {
            return Err(FrameError::NotAFrame { start, detail: "the two lengths differ" });
        }
        if crc32c::crc32c(&body[..covered]) != read_u32(&body[covered..])? {
            return Err(FrameError::Checksum { start, end });
        }
        Ok(Frame { start, end, envelope: body.slice(..env_len as usize) })
    }
}

fn read_u32(bytes: &[u8]) -> io::Result<u32> {
    bytes
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
