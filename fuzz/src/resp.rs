//! The RESP parser: any bytes, in any pieces.

use sira_server::resp::{Sender, requests};

use crate::Input;

/// Words of the protocol.
pub const WORDS: &[&[u8]] = &[
    b"*1\r\n",
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"\r\n",
    b"*0\r\n",
    b"PING\r\n",
    b"\"a b\\x41\"",
    b"'\\''",
    b"\\",
    b"\0",
    b"\n",
    b"*2147483647\r\n",
    b"$9223372036854775807\r\n",
    b"$536870912\r\n",
    b"*11\r\n",
    b"$16385\r\n",
    b"+1",
    b"-0",
    b"01",
];

/// Most places at which the stream is cut.
const CUTS_MAX: usize = 15;

/// What the parser finds may not depend on how the bytes come: the stream at once, in the pieces
/// that the input asks for, and byte by byte. What it breaks of its own word, `requests` says.
///
/// ```text
/// | flags 1 | limit 2 | cuts 1 | place 2 each | fill 1, place 2 where a flag asks | stream |
/// ```
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let limit = usize::from(input.short());
    let sender = Sender {
        authenticated: flags & 1 == 0,
        bulk_bytes_max: if flags & 2 == 0 { 512 << 20 } else { limit },
    };
    let cuts: Vec<usize> = (0..input.up_to(CUTS_MAX)).map(|_| input.short().into()).collect();
    let fill = (flags & 4 != 0).then(|| (65_500 + usize::from(input.byte()), input.short()));
    let mut stream = input.rest().to_vec();
    if let Some((count, at)) = fill {
        // Lines as long as the limit, which no input reaches by itself.
        let at = usize::from(at) % (stream.len() + 1);
        stream.splice(at..at, std::iter::repeat_n(b'7', count));
    }
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.sort_unstable();

    let at_once = requests(&stream, &[], sender);
    assert_eq!(requests(&stream, &ends, sender), at_once, "cut at {ends:?}");
    if stream.len() < 1024 {
        let all: Vec<usize> = (1..stream.len()).collect();
        assert_eq!(requests(&stream, &all, sender), at_once, "byte by byte");
    }

    // Written the way that clients write it, each request means the same again.
    let mut again = Vec::new();
    for request in &at_once.requests {
        again.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
        for argument in request {
            again.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            again.extend_from_slice(argument);
            again.extend_from_slice(b"\r\n");
        }
    }
    let trusted = Sender { authenticated: true, bulk_bytes_max: 512 << 20 };
    let reread = requests(&again, &[], trusted);
    assert_eq!((reread.requests, reread.error, reread.rest), (at_once.requests, None, 0));
}
