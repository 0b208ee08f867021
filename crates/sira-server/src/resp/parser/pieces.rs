//! The parser over a stream that comes in pieces, as tests and fuzz targets feed it.

use super::{Parser, ProtocolError, Step};

/// What the parser makes of a stream.
#[cfg(feature = "fuzzing")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// The arguments of each request, in order.
    pub requests: Vec<Vec<Vec<u8>>>,
    /// Text of the error that ends the connection, if one does.
    pub error: Option<String>,
    /// Bytes at the end that are no whole request, or that were not looked at after an error.
    pub rest: usize,
}

/// Who sends the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Whether the client has authenticated; others may send little.
    pub authenticated: bool,
    /// Longest argument, in bytes.
    pub bulk_bytes_max: usize,
}

/// All requests of a stream whose pieces end at `ends`: places in rising order, to which the end of
/// the stream is added.
///
/// # Panics
/// When the parser breaks its word: it asks for more bytes than it needed, says that it used bytes
/// which it was not given, or makes up arguments.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn requests(stream: &[u8], ends: &[usize], sender: Sender) -> Requests {
    let (found, error, rest) = parse(stream, ends, sender);
    let error = error.map(|error| String::from_utf8_lossy(&error.text()).into_owned());
    Requests { requests: found, error, rest }
}

/// The requests of a stream, the error that ends it, and how many bytes are no whole request.
pub(super) fn parse(
    stream: &[u8],
    ends: &[usize],
    sender: Sender,
) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>, usize) {
    let mut parser = Parser::new(sender.authenticated);
    parser.bulk_bytes_max = sender.bulk_bytes_max;
    let (mut found, mut start) = (Vec::new(), 0);
    // Where the request that is arriving can be whole at the earliest.
    let mut needed = 0;
    for end in ends.iter().copied().chain([stream.len()]) {
        while start < end {
            let given = stream.get(start..end).unwrap_or(&[]);
            let step = parser.parse(given);
            let enough = end >= needed;
            let used = match step {
                Step::Incomplete { missing } => {
                    assert!(missing > 0, "nothing is missing");
                    needed = end + missing;
                    break;
                }
                Step::Failed(error) => {
                    assert!(enough, "it failed before it had the bytes that it asked for");
                    return (found, Some(error), stream.len() - start);
                }
                Step::Nothing { used } => used,
                Step::Request { used } => {
                    let args = parser.args(given);
                    let arguments: Vec<_> = args.from(0).map(<[u8]>::to_vec).collect();
                    assert!(!arguments.is_empty(), "a request without a command");
                    assert!(args.total_bytes() <= used, "more arguments than bytes");
                    let whole: usize = arguments.iter().map(Vec::len).sum();
                    assert_eq!(args.total_bytes(), whole, "an argument is not where it should be");
                    found.push(arguments);
                    used
                }
            };
            assert!(enough, "it asked for more bytes than it needed");
            assert!(0 < used && used <= given.len(), "it used {used} bytes of {}", given.len());
            start += used;
            parser.reset();
        }
    }
    (found, None, stream.len() - start)
}
