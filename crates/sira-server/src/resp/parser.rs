//! Requests out of bytes.
//!
//! The parser sees the bytes of the request that is arriving, from its first byte, and remembers
//! how far it came, so that a request that trickles in costs no more than one that comes at once.
//! It copies nothing but inline requests with quotes: arguments are spans of the given bytes.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod pieces;
#[cfg(test)]
mod tests;

use crate::limits::{
    RESP_BULK_BYTES_MAX, RESP_LINE_BYTES_MAX, RESP_UNAUTHENTICATED_ARGUMENTS_MAX,
    RESP_UNAUTHENTICATED_BULK_BYTES_MAX,
};

use super::number::parse_i64;

/// Where one argument lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// A span; the parser's limits keep every request below 4 GiB.
    pub(crate) fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }
}

/// The arguments of one request; the first is the command's name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    pub(crate) fn new(bytes: &'a [u8], spans: &'a [Span]) -> Self {
        Self { bytes, spans }
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The argument, or nothing past the last one.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        self.try_get(index).unwrap_or(&[])
    }

    #[inline]
    pub(crate) fn try_get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        let start = span.start as usize;
        self.bytes.get(start..start + span.len as usize)
    }

    /// Arguments from `index` on.
    pub(crate) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let this = *self;
        (index.min(self.len())..self.len()).map(move |index| this.get(index))
    }

    /// Bytes of all arguments together.
    pub(crate) fn total_bytes(&self) -> usize {
        self.spans.iter().map(|span| span.len as usize).sum()
    }
}

/// What is wrong with the framing of a request; the client is told and disconnected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProtocolError {
    BigInline,
    UnbalancedQuotes,
    BigCount,
    BadCount,
    UnauthenticatedCount,
    BigLength,
    ExpectedBulk(u8),
    BadLength,
    UnauthenticatedLength,
}

impl ProtocolError {
    /// The error reply without its prefix.
    pub(crate) fn text(self) -> Vec<u8> {
        let text: &[u8] = match self {
            Self::BigInline => b"too big inline request",
            Self::UnbalancedQuotes => b"unbalanced quotes in request",
            Self::BigCount => b"too big mbulk count string",
            Self::BadCount => b"invalid multibulk length",
            Self::UnauthenticatedCount => b"unauthenticated multibulk length",
            Self::BigLength => b"too big bulk count string",
            Self::ExpectedBulk(_) => b"expected '$', got '",
            Self::BadLength => b"invalid bulk length",
            Self::UnauthenticatedLength => b"unauthenticated bulk length",
        };
        let mut out = b"ERR Protocol error: ".to_vec();
        out.extend_from_slice(text);
        if let Self::ExpectedBulk(byte) = self {
            let shown = if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
            out.extend_from_slice(&[shown, b'\'']);
        }
        out
    }
}

/// Outcome of one look at the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The request is not whole; at least this many bytes more are to come.
    Incomplete { missing: usize },
    /// A whole request of this many bytes: see [`Parser::args`].
    Request { used: usize },
    /// These bytes ask for nothing.
    Nothing { used: usize },
    /// The connection cannot go on.
    Failed(ProtocolError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// In an array with this many arguments to come.
    Array(u32),
    /// In an array with this many arguments to come, the next one of this many bytes.
    Bulk(u32, u32),
    Inline,
}

/// State of the request that is arriving.
#[derive(Debug)]
pub(crate) struct Parser {
    spans: Vec<Span>,
    /// Arguments of an inline request, without quotes.
    unquoted: Vec<u8>,
    inline: bool,
    state: State,
    /// Bytes of the request that have been seen.
    seen: usize,
    pub(crate) bulk_bytes_max: usize,
    pub(crate) authenticated: bool,
}

impl Parser {
    pub(crate) fn new(authenticated: bool) -> Self {
        Self {
            spans: Vec::new(),
            unquoted: Vec::new(),
            inline: false,
            state: State::Start,
            seen: 0,
            bulk_bytes_max: RESP_BULK_BYTES_MAX,
            authenticated,
        }
    }

    /// Arguments of the request that [`Step::Request`] reported, in the same bytes.
    #[inline]
    pub(crate) fn args<'a>(&'a self, bytes: &'a [u8]) -> Args<'a> {
        Args::new(if self.inline { &self.unquoted } else { bytes }, &self.spans)
    }

    /// Forgets the request that was reported and what it needed, if that was much.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.spans.clear();
        self.state = State::Start;
        self.seen = 0;
        self.inline = false;
        if self.spans.capacity() > 1024 {
            self.spans = Vec::new();
        }
        if self.unquoted.capacity() > 1024 {
            self.unquoted = Vec::new();
        }
    }

    /// Looks at the bytes of the request that is arriving. After `Incomplete`, call again with the
    /// same bytes and more; after any other step but `Failed`, [`Parser::reset`] and go on behind
    /// the used bytes.
    pub(crate) fn parse(&mut self, bytes: &[u8]) -> Step {
        loop {
            match self.state {
                State::Start => match bytes.first() {
                    None => return Step::Incomplete { missing: 1 },
                    Some(b'*') => match line(bytes, 1) {
                        Line::Partial => return incomplete(bytes, 0, ProtocolError::BigCount),
                        Line::Whole { end, .. } if is_long(0, end) => {
                            return Step::Failed(ProtocolError::BigCount);
                        }
                        Line::Whole { end, value } => {
                            self.seen = end;
                            let count = value.or_else(|| parse_i64(bytes.get(1..end - 2)?));
                            match count {
                                Some(count) if count <= 0 => return Step::Nothing { used: end },
                                Some(count) if count <= i64::from(i32::MAX) => {
                                    if !self.authenticated
                                        && count > RESP_UNAUTHENTICATED_ARGUMENTS_MAX
                                    {
                                        return Step::Failed(ProtocolError::UnauthenticatedCount);
                                    }
                                    self.state = State::Array(count as u32);
                                }
                                _ => return Step::Failed(ProtocolError::BadCount),
                            }
                        }
                    },
                    Some(_) => self.state = State::Inline,
                },
                State::Array(0) => return Step::Request { used: self.seen },
                State::Array(left) => {
                    let Some(first) = bytes.get(self.seen) else {
                        return Step::Incomplete { missing: 1 };
                    };
                    let (end, value) = match line(bytes, self.seen + 1) {
                        Line::Partial => {
                            return incomplete(bytes, self.seen, ProtocolError::BigLength);
                        }
                        Line::Whole { end, .. } if is_long(self.seen, end) => {
                            return Step::Failed(ProtocolError::BigLength);
                        }
                        Line::Whole { end, value } => (end, value),
                    };
                    if *first != b'$' {
                        return Step::Failed(ProtocolError::ExpectedBulk(*first));
                    }
                    let len = value.or_else(|| parse_i64(bytes.get(self.seen + 1..end - 2)?));
                    match len.and_then(|len| usize::try_from(len).ok()) {
                        Some(len) if len <= self.bulk_bytes_max => {
                            if !self.authenticated && len > RESP_UNAUTHENTICATED_BULK_BYTES_MAX {
                                return Step::Failed(ProtocolError::UnauthenticatedLength);
                            }
                            self.seen = end;
                            self.state = State::Bulk(left, len as u32);
                        }
                        _ => return Step::Failed(ProtocolError::BadLength),
                    }
                }
                State::Bulk(left, len) => {
                    let len = len as usize;
                    let end = self.seen + len + 2;
                    if bytes.len() < end {
                        return Step::Incomplete { missing: end - bytes.len() };
                    }
                    self.spans.push(Span::new(self.seen, len));
                    self.seen = end;
                    self.state = State::Array(left - 1);
                }
                State::Inline => return self.parse_inline(bytes),
            }
        }
    }

    fn parse_inline(&mut self, bytes: &[u8]) -> Step {
        // A zero byte ends the search for the line's end, as it does in Redis.
        let found = memchr::memchr2(b'\n', 0, bytes.get(self.seen..).unwrap_or(&[]));
        let end = match found.map(|at| self.seen + at) {
            Some(end) if is_long(0, end + 1) => return Step::Failed(ProtocolError::BigInline),
            Some(end) if bytes.get(end) == Some(&b'\n') => end,
            zero => {
                self.seen = zero.unwrap_or(bytes.len());
                return incomplete(bytes, 0, ProtocolError::BigInline);
            }
        };
        let line = bytes.get(..end).unwrap_or(&[]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.inline = true;
        self.unquoted.clear();
        if !split_inline(line, &mut self.unquoted, &mut self.spans) {
            return Step::Failed(ProtocolError::UnbalancedQuotes);
        }
        let used = end + 1;
        if self.spans.is_empty() { Step::Nothing { used } } else { Step::Request { used } }
    }
}

/// `Incomplete`, or the error when the line that began at `start` is too long by now.
fn incomplete(bytes: &[u8], start: usize, error: ProtocolError) -> Step {
    if bytes.len() - start > RESP_LINE_BYTES_MAX {
        Step::Failed(error)
    } else {
        Step::Incomplete { missing: 1 }
    }
}

/// Whether a line from `start` to `end` would have been too long before its last byte came: it is
/// refused however it arrives.
fn is_long(start: usize, end: usize) -> bool {
    end - start > RESP_LINE_BYTES_MAX + 1
}

enum Line {
    Partial,
    /// The line and its two end bytes stop at `end`; `value` is its number where it is plain.
    Whole {
        end: usize,
        value: Option<i64>,
    },
}

/// The line from `start` up to a carriage return and one byte more.
#[inline]
fn line(bytes: &[u8], start: usize) -> Line {
    let rest = bytes.get(start..).unwrap_or(&[]);
    let mut value = 0_i64;
    for (index, byte) in rest.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 && index < 18 && (index == 0 || value != 0) {
            value = value * 10 + i64::from(digit);
        } else if *byte == b'\r' {
            return whole(rest, start, index, (index > 0).then_some(value));
        } else {
            return match memchr::memchr(b'\r', rest) {
                Some(index) => whole(rest, start, index, None),
                None => Line::Partial,
            };
        }
    }
    Line::Partial
}

#[inline]
fn whole(rest: &[u8], start: usize, index: usize, value: Option<i64>) -> Line {
    if index + 1 < rest.len() {
        Line::Whole { end: start + index + 2, value }
    } else {
        Line::Partial
    }
}

/// Splits a line at blanks; `"..."` knows escapes, `'...'` only `\'`. False when quotes do not end,
/// or end in the middle of a word.
fn split_inline(line: &[u8], out: &mut Vec<u8>, spans: &mut Vec<Span>) -> bool {
    // Redis reads its lines as C strings.
    let line = line.split(|byte| *byte == 0).next().unwrap_or(&[]);
    let blank = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let mut rest = line.iter().copied().peekable();
    loop {
        while rest.next_if(|byte| blank(*byte)).is_some() {}
        if rest.peek().is_none() {
            return true;
        }
        let start = out.len();
        let mut quote = 0_u8;
        loop {
            match (quote, rest.next()) {
                (0, None) => break,
                (_, None) => return false,
                (0, Some(byte)) if blank(byte) => break,
                (0, Some(byte @ (b'"' | b'\''))) => quote = byte,
                (0, Some(byte)) => out.push(byte),
                (b'"', Some(b'\\')) => match rest.next() {
                    None => return false,
                    Some(b'x') => match hex_pair(&rest) {
                        Some(byte) => {
                            rest.nth(1);
                            out.push(byte);
                        }
                        None => out.push(b'x'),
                    },
                    Some(b'n') => out.push(b'\n'),
                    Some(b'r') => out.push(b'\r'),
                    Some(b't') => out.push(b'\t'),
                    Some(b'b') => out.push(8),
                    Some(b'a') => out.push(7),
                    Some(byte) => out.push(byte),
                },
                (b'\'', Some(b'\\')) if rest.peek() == Some(&b'\'') => {
                    rest.next();
                    out.push(b'\'');
                }
                (open, Some(byte)) if byte == open => {
                    if rest.peek().is_some_and(|byte| !blank(*byte)) {
                        return false;
                    }
                    break;
                }
                (_, Some(byte)) => out.push(byte),
            }
        }
        spans.push(Span::new(start, out.len() - start));
    }
}

fn hex_pair(rest: &(impl Iterator<Item = u8> + Clone)) -> Option<u8> {
    let mut ahead = rest.clone();
    let mut digit = || char::from(ahead.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}
