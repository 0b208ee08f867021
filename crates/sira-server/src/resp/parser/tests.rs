use super::pieces::Sender;
use super::*;
use proptest::prelude::*;

const SENDER: Sender = Sender { authenticated: true, bulk_bytes_max: RESP_BULK_BYTES_MAX };

/// All requests of a stream, given in pieces that end at the cuts, and how it ended.
fn requests(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.sort_unstable();
    let (found, error, _) = pieces::parse(stream, &ends, SENDER);
    (found, error)
}

fn whole(stream: &[u8]) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
    requests(stream, &[])
}

fn words(args: &[&str]) -> Vec<Vec<u8>> {
    args.iter().map(|arg| arg.as_bytes().to_vec()).collect()
}

#[test]
fn requests_are_read_in_order() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n*0\r\n*-1\r\n\r\n*1\r\n$0\r\n\r\n";
    let expected = vec![words(&["GET", "a"]), words(&["PING"]), words(&[""])];
    assert_eq!(whole(stream), (expected, None));
}

#[test]
fn inline_requests_know_quotes() {
    for (line, expected) in [
        ("set a \"x y\\n\\x41\\\"\"\r\n", Some(vec!["set", "a", "x y\nA\""])),
        ("set a 'x \\' \\n'\n", Some(vec!["set", "a", "x ' \\n"])),
        ("  a\tb  \r\n", Some(vec!["a", "b"])),
        ("a \"\" ''\n", Some(vec!["a", "", ""])),
        ("\"\\xzz\"\n", Some(vec!["xzz"])),
        ("set \"a\"b\r\n", None),
        ("set \"a\r\n", None),
        ("set 'a\r\n", None),
    ] {
        let expected = match expected {
            Some(args) => (vec![words(&args)], None),
            None => (vec![], Some(ProtocolError::UnbalancedQuotes)),
        };
        assert_eq!(whole(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn malformed_framing_is_refused() {
    for (stream, error) in [
        ("*3\r\nx", None),
        ("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", Some(ProtocolError::ExpectedBulk(b'f'))),
        ("*3\r\n$-1\r\n", Some(ProtocolError::BadLength)),
        ("*3\r\n$2000000000\r\n", Some(ProtocolError::BadLength)),
        ("*3\r\n$blah\r\n", Some(ProtocolError::BadLength)),
        ("*3\r\n$03\r\n", Some(ProtocolError::BadLength)),
        ("*3\r\n$\r\n", Some(ProtocolError::BadLength)),
        ("*20000000000\r\n", Some(ProtocolError::BadCount)),
        ("*x\r\n", Some(ProtocolError::BadCount)),
        ("*99999999999999999999999\r\n", Some(ProtocolError::BadCount)),
    ] {
        assert_eq!(whole(stream.as_bytes()).1, error, "{stream:?}");
    }
    let long = vec![b'a'; RESP_LINE_BYTES_MAX + 1];
    assert_eq!(whole(&long).1, Some(ProtocolError::BigInline));
    assert_eq!(whole(&[b"*", &long[..]].concat()).1, Some(ProtocolError::BigCount));
    assert_eq!(whole(&[b"*1\r\n$", &long[..]].concat()).1, Some(ProtocolError::BigLength));
    assert_eq!(whole(&[b"\0", &long[..], b"\n"].concat()).1, Some(ProtocolError::BigInline));
}

#[test]
fn lines_that_are_too_long_are_refused_however_they_arrive() {
    for (before, after, error) in [
        (&b""[..], &b"\n"[..], ProtocolError::BigInline),
        (b"*", b"\r\n", ProtocolError::BigCount),
        (b"*1\r\n$", b"\r\n", ProtocolError::BigLength),
    ] {
        // The first line that is too long has one byte more than the limit before its last one.
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let fixed = before.len() - start + after.len() - 1;
        for extra in [0, 1, 5000] {
            let fill = vec![b'1'; RESP_LINE_BYTES_MAX - fixed + extra];
            let stream = [before, &fill, after].concat();
            let at_once = whole(&stream);
            assert_eq!(at_once.1 == Some(error), extra > 0, "{before:?} {extra}");
            assert_eq!(requests(&stream, &[stream.len() - 1]), at_once, "{before:?} {extra}");
        }
    }
}

#[test]
fn strangers_may_not_send_much() {
    for (stream, error) in [
        (&b"*11\r\n"[..], ProtocolError::UnauthenticatedCount),
        (&b"*2\r\n$16385\r\n"[..], ProtocolError::UnauthenticatedLength),
    ] {
        let mut parser = Parser::new(false);
        assert_eq!(parser.parse(stream), Step::Failed(error));
    }
}

#[test]
fn every_cut_gives_the_same_requests() {
    let stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\n\r\n\r\n\r\nset b \"c d\"\r\n\
        *2\r\n$4\r\nECHO\r\n$12\r\nhello, world\r\n\n*1\r\n$4\r\nPING\r\n*1\r\nx4\r\n";
    let expected = whole(stream);
    assert_eq!(expected.0.len(), 4);
    for first in 0..stream.len() {
        for second in first..stream.len() {
            assert_eq!(requests(stream, &[first, second]), expected, "{first} {second}");
        }
    }
    let all: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(requests(stream, &all), expected);
}

proptest! {
    #[test]
    fn cuts_never_matter(
        requests_in in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..30),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let mut stream = Vec::new();
        for args in &requests_in {
            stream.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
            for arg in args {
                stream.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
                stream.extend_from_slice(arg);
                stream.extend_from_slice(b"\r\n");
            }
        }
        let (clean, error) = requests(&stream, &cuts);
        prop_assert_eq!((clean, error), (requests_in, None));
        stream.extend_from_slice(&noise);
        prop_assert_eq!(requests(&stream, &cuts), whole(&stream));
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(
        prop::sample::select(&b"*$\r\n0123456789-abc\"'\\x \0"[..]), 0..200)) {
        whole(&noise);
    }
}
