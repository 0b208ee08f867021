//! Writes frames.

use std::io::{self, Seek, SeekFrom, Write};

use super::BinaryLogFormat;

/// Appends frames to a writer.
#[derive(Debug)]
pub struct BinaryLogWriter<W> {
    out: W,
    position: u64,
}

impl<W: Write> BinaryLogWriter<W> {
    /// Frames go to `out`, whose position must be a multiple of four.
    pub fn new(out: W) -> Self {
        Self { out, position: 0 }
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Writes one frame around the envelope that the parts make, and returns where it starts.
    ///
    /// # Errors
    /// `InvalidInput` for an envelope over [`BinaryLogFormat::ENVELOPE_BYTES_MAX`], otherwise the
    /// writer's error, after which the output ends in a part of a frame.
    pub fn append(&mut self, envelope: &[&[u8]]) -> io::Result<u64> {
        let len: u64 = envelope.iter().map(|part| part.len() as u64).sum();
        let len = envelope_len(len)?;
        let mut crc = 0;
        self.out.write_all(&BinaryLogFormat::head(len))?;
        for part in envelope {
            crc = crc32c::crc32c_append(crc, part);
            self.out.write_all(part)?;
        }
        let (tail, count) = BinaryLogFormat::tail(len, crc);
        self.out.write_all(&tail[..count])?;
        let start = self.position;
        self.position += BinaryLogFormat::frame_len(u64::from(len));
        Ok(start)
    }

    /// Ends writing.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write + Seek> BinaryLogWriter<W> {
    /// Starts a frame whose envelope is written in pieces; its length is filled in by
    /// [`FrameStream::finish`]. Until then the frame's first EnvLen is zero and it ends nowhere, so
    /// no cursor takes it for a frame.
    ///
    /// # Errors
    /// The writer's error.
    pub fn stream(&mut self) -> io::Result<FrameStream<'_, W>> {
        let start = self.out.stream_position()?;
        self.out.write_all(&BinaryLogFormat::head(0))?;
        Ok(FrameStream { writer: self, start, len: 0, crc: 0 })
    }
}

/// A frame that is being written in pieces. Dropped without [`FrameStream::finish`], it stays a
/// torn frame.
#[derive(Debug)]
pub struct FrameStream<'a, W> {
    writer: &'a mut BinaryLogWriter<W>,
    start: u64,
    len: u64,
    crc: u32,
}

impl<W: Write + Seek> FrameStream<'_, W> {
    /// Adds bytes to the envelope.
    ///
    /// # Errors
    /// As [`BinaryLogWriter::append`].
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        envelope_len(self.len + bytes.len() as u64)?;
        self.writer.out.write_all(bytes)?;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Ends the frame, fills in its length and returns where it starts, in bytes written by this
    /// writer.
    ///
    /// # Errors
    /// The writer's error.
    pub fn finish(self) -> io::Result<u64> {
        let len = envelope_len(self.len)?;
        let (tail, count) = BinaryLogFormat::tail(len, self.crc);
        self.writer.out.write_all(&tail[..count])?;
        let end = self.writer.out.stream_position()?;
        self.writer.out.seek(SeekFrom::Start(self.start))?;
        self.writer.out.write_all(&BinaryLogFormat::head(len))?;
        self.writer.out.seek(SeekFrom::Start(end))?;
        let start = self.writer.position;
        self.writer.position += BinaryLogFormat::frame_len(u64::from(len));
        Ok(start)
    }
}

fn envelope_len(len: u64) -> io::Result<u32> {
    if len > BinaryLogFormat::ENVELOPE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "envelope over the frame's limit"));
    }
    u32::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}
