//! Replies on their way to a client.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;
use sira_store::embedded::Ticket;

use crate::limits::RESP_SHARED_REPLY_BYTES_MIN;

/// Most slices of one system call.
const SLICES_MAX: usize = 64;

/// From this place on, replies wait until the ticket is durable.
#[derive(Debug, Clone, Copy)]
struct Hold {
    from: u64,
    ticket: Ticket,
}

/// A reply that is held or stands behind one that is.
#[derive(Debug, Clone, Copy)]
struct Mark {
    end: u64,
    wrote: bool,
}

/// A place in the replies to which [`Output::truncate`] returns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place(u64);

/// Replies that are not sent yet, in order.
///
/// Positions count all bytes of the connection's life. Large values are kept as the store's own
/// memory between the encoded replies.
#[derive(Debug, Default)]
pub(crate) struct Output {
    /// Full chunks, before the tail.
    chunks: VecDeque<Bytes>,
    chunk_bytes: usize,
    tail: Vec<u8>,
    /// Sent bytes of the first chunk, or of the tail when there is none.
    front_sent: usize,
    /// Position of the first unsent byte.
    sent: u64,
    holds: VecDeque<Hold>,
    marks: VecDeque<Mark>,
    /// Whether the client speaks RESP3.
    pub(crate) resp3: bool,
}

impl Output {
    /// No replies yet, of this protocol.
    pub(crate) fn speaking(resp3: bool) -> Self {
        Self { resp3, ..Self::default() }
    }

    /// Bytes that are not sent.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.chunk_bytes + self.tail.len() - self.front_sent
    }

    #[inline]
    fn end(&self) -> u64 {
        self.sent + self.pending() as u64
    }

    pub(crate) fn place(&self) -> Place {
        Place(self.end())
    }

    /// Takes back what was written since `place`. Nothing of it may have been sent.
    pub(crate) fn truncate(&mut self, place: Place) {
        let mut excess = usize::try_from(self.end().saturating_sub(place.0)).unwrap_or(0);
        let cut = excess.min(self.tail.len());
        self.tail.truncate(self.tail.len() - cut);
        excess -= cut;
        while excess > 0 {
            let Some(mut chunk) = self.chunks.pop_back() else { break };
            self.chunk_bytes -= chunk.len();
            let cut = excess.min(chunk.len());
            excess -= cut;
            chunk.truncate(chunk.len() - cut);
            if !chunk.is_empty() {
                self.chunk_bytes += chunk.len();
                self.chunks.push_back(chunk);
            }
        }
    }

    /// The buffer of encoded replies.
    #[inline]
    pub(crate) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Gives back the buffer of encoded replies, if it is empty and larger than `keep`.
    pub(crate) fn shrink(&mut self, keep: usize) {
        if self.tail.capacity() > keep && self.pending() == 0 {
            self.tail = Vec::new();
        }
    }

    fn push_chunk(&mut self, chunk: Bytes) {
        self.chunk_bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    fn flush_tail(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        // `front_sent` counts into the tail only while there are no chunks; then it goes with it.
        let tail = std::mem::take(&mut self.tail);
        self.push_chunk(Bytes::from(tail));
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.tail.push(b'+');
        self.tail.extend_from_slice(text.as_bytes());
        self.tail.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub(crate) fn ok(&mut self) {
        self.tail.extend_from_slice(b"+OK\r\n");
    }

    /// An error whose text begins with its code; line ends become blanks.
    pub(crate) fn error(&mut self, text: &[u8]) {
        self.tail.push(b'-');
        let shown = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        self.tail.extend(text.iter().map(shown));
        self.tail.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn header(&mut self, kind: u8, number: i64) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(number);
        self.tail.reserve(digits.len() + 3);
        self.tail.push(kind);
        self.tail.extend_from_slice(digits.as_bytes());
        self.tail.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub(crate) fn int(&mut self, number: i64) {
        self.header(b':', number);
    }

    /// A count or a length as an integer reply.
    #[inline]
    pub(crate) fn len(&mut self, number: usize) {
        self.int(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn array(&mut self, items: usize) {
        self.header(b'*', items as i64);
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        if self.resp3 {
            self.header(b'%', pairs as i64);
        } else {
            self.header(b'*', pairs as i64 * 2);
        }
    }

    pub(crate) fn set(&mut self, items: usize) {
        self.header(if self.resp3 { b'~' } else { b'*' }, items as i64);
    }

    pub(crate) fn null(&mut self) {
        self.tail.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub(crate) fn null_array(&mut self) {
        self.tail.extend_from_slice(if self.resp3 { b"_\r\n" } else { b"*-1\r\n" });
    }

    #[inline]
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.tail.reserve(bytes.len() + 16);
        self.header(b'$', bytes.len() as i64);
        self.tail.extend_from_slice(bytes);
        self.tail.extend_from_slice(b"\r\n");
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bulk(text.as_bytes());
    }

    /// Text for people: marked as such in RESP3.
    pub(crate) fn verbatim(&mut self, text: &str) {
        if self.resp3 {
            self.header(b'=', text.len() as i64 + 4);
            self.tail.extend_from_slice(b"txt:");
            self.tail.extend_from_slice(text.as_bytes());
            self.tail.extend_from_slice(b"\r\n");
        } else {
            self.text(text);
        }
    }

    /// A value as a bulk string; large ones are not copied.
    pub(crate) fn value(&mut self, value: Bytes) {
        if value.len() < RESP_SHARED_REPLY_BYTES_MIN {
            self.bulk(&value);
            return;
        }
        self.header(b'$', value.len() as i64);
        self.flush_tail();
        self.push_chunk(value);
        self.tail.extend_from_slice(b"\r\n");
    }

    /// Puts replies behind these that were written elsewhere.
    pub(crate) fn append(&mut self, other: Self) {
        if !other.chunks.is_empty() {
            self.flush_tail();
            other.chunks.into_iter().for_each(|chunk| self.push_chunk(chunk));
        }
        self.tail.extend_from_slice(&other.tail);
    }

    /// The number that is the only reply here.
    pub(crate) fn as_number(&self) -> Option<i64> {
        let digits = self.tail.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Replies from `place` on wait until the ticket is durable.
    pub(crate) fn hold(&mut self, place: Place, ticket: Ticket) {
        match self.holds.back() {
            Some(last) if last.ticket >= ticket => {}
            _ => self.holds.push_back(Hold { from: place.0, ticket }),
        }
    }

    /// Remembers where a reply ends, as long as something is held or about to be.
    pub(crate) fn mark(&mut self, wrote: bool) {
        if wrote || !self.marks.is_empty() {
            self.marks.push_back(Mark { end: self.end(), wrote });
        }
    }

    /// Whether replies wait for an fsync.
    pub(crate) fn is_held(&self) -> bool {
        !self.holds.is_empty()
    }

    /// Lets go of what is durable.
    pub(crate) fn release_durable(&mut self, durable: Ticket) {
        while self.holds.front().is_some_and(|hold| hold.ticket <= durable) {
            self.holds.pop_front();
        }
        match self.holds.front() {
            None => self.marks.clear(),
            Some(hold) => {
                while self.marks.front().is_some_and(|mark| mark.end <= hold.from) {
                    self.marks.pop_front();
                }
            }
        }
    }

    /// Puts `error` in the place of every held reply to a write, and lets go of all.
    pub(crate) fn fail_held(&mut self, error: &[u8]) {
        let Some(hold) = self.holds.front().copied() else { return };
        self.flush_tail();
        let mut rest: VecDeque<Bytes> = std::mem::take(&mut self.chunks);
        self.chunk_bytes = 0;
        let mut at = self.sent - self.front_sent as u64;
        let mut take = |until: u64, into: &mut Self, keep: bool| {
            while at < until {
                let Some(mut chunk) = rest.pop_front() else { return };
                let wanted = usize::try_from(until - at).unwrap_or(usize::MAX);
                if wanted < chunk.len() {
                    rest.push_front(chunk.split_off(wanted));
                }
                at += chunk.len() as u64;
                if keep {
                    into.push_chunk(chunk);
                }
            }
        };
        let marks = std::mem::take(&mut self.marks);
        take(hold.from, self, true);
        for mark in marks {
            let failed = mark.wrote && mark.end > hold.from;
            take(mark.end, self, !failed);
            if failed {
                self.error(error);
                self.flush_tail();
            }
        }
        take(u64::MAX, self, true);
        self.holds.clear();
    }

    /// Fills `slices` with what may be sent now.
    pub(crate) fn slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) {
        let limit = match self.holds.front() {
            Some(hold) => hold.from.saturating_sub(self.sent),
            None => u64::MAX,
        };
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut skip = self.front_sent;
        let parts = self.chunks.iter().map(|chunk| &chunk[..]).chain([&self.tail[..]]);
        for part in parts {
            if left == 0 || slices.len() == SLICES_MAX {
                break;
            }
            let part = part.get(skip..).unwrap_or(&[]);
            skip = 0;
            let part = part.get(..left).unwrap_or(part);
            left -= part.len();
            if !part.is_empty() {
                slices.push(IoSlice::new(part));
            }
        }
    }

    /// The tail alone, when that is all and nothing is held: the common case.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&[u8]> {
        if self.chunks.is_empty() && self.holds.is_empty() {
            self.tail.get(self.front_sent..)
        } else {
            None
        }
    }

    /// Counts bytes as sent.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        self.front_sent += bytes;
        while let Some(front) = self.chunks.front() {
            if self.front_sent < front.len() {
                return;
            }
            self.front_sent -= front.len();
            self.chunk_bytes -= front.len();
            self.chunks.pop_front();
        }
        if self.front_sent >= self.tail.len() {
            self.front_sent = 0;
            self.tail.clear();
        }
    }
}
