//! RESP2, as far as the load needs it.

use std::io::Write;

use super::BENCH_NAMESPACE;
use super::wire::{Answer, Protocol};
use super::workload::{Op, push_key};
use crate::failure::{Exit, Failure, Outcome};

/// The RESP door.
pub struct Resp {
    token: Option<String>,
}

impl std::fmt::Debug for Resp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resp")
    }
}

impl Resp {
    /// With this token, if the server wants one.
    pub fn new(token: Option<String>) -> Self {
        Self { token }
    }
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    let _ = write!(out, "${}\r\n", bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

impl Protocol for Resp {
    fn name(&self) -> String {
        "RESP".to_owned()
    }

    fn greeting(&self) -> (Vec<u8>, usize) {
        let mut out = Vec::new();
        match &self.token {
            Some(token) => {
                out.extend_from_slice(b"*2\r\n$4\r\nAUTH\r\n");
                push_bulk(&mut out, token.as_bytes());
            }
            None => out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"),
        }
        (out, 1)
    }

    fn encode(&self, out: &mut Vec<u8>, op: Op, key: u64, value: &[u8]) {
        out.extend_from_slice(match op {
            Op::Get => b"*2\r\n$3\r\nGET\r\n",
            Op::Put => b"*3\r\n$3\r\nSET\r\n",
            Op::Delete => b"*2\r\n$3\r\nDEL\r\n",
        });
        let mut name = Vec::with_capacity(32);
        name.extend_from_slice(BENCH_NAMESPACE.as_bytes());
        name.push(b':');
        push_key(&mut name, key);
        push_bulk(out, &name);
        if op == Op::Put {
            push_bulk(out, value);
        }
    }

    fn decode(&self, bytes: &[u8]) -> Outcome<Option<(usize, Answer)>> {
        let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let (line, after) = (bytes.get(1..end).unwrap_or_default(), end + 2);
        let text = || String::from_utf8_lossy(line).into_owned();
        match bytes.first() {
            Some(b'+' | b':') => Ok(Some((after, Answer::Done))),
            Some(b'$') => match text().parse::<i64>() {
                Ok(-1) => Ok(Some((after, Answer::Missing))),
                Ok(len) if len >= 0 => {
                    let whole = after + len as usize + 2;
                    Ok((bytes.len() >= whole).then_some((whole, Answer::Done)))
                }
                _ => Err(foreign()),
            },
            Some(b'-') => {
                let text = text();
                let auth = ["NOAUTH", "WRONGPASS"].iter().any(|code| text.starts_with(code));
                let exit = if auth { Exit::Auth } else { Exit::Other };
                Err(Failure::other(format!("the server answered: {text}")).exit(exit))
            }
            _ => Err(foreign()),
        }
    }
}

fn foreign() -> Failure {
    Failure::usage("the server does not speak RESP; check the address of --resp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_written_as_redis_reads_them() {
        let resp = Resp::new(None);
        let mut out = Vec::new();
        resp.encode(&mut out, Op::Put, 7, b"v");
        assert_eq!(out, b"*3\r\n$3\r\nSET\r\n$27\r\nsira-bench:key-000000000007\r\n$1\r\nv\r\n");
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let decode = |bytes: &[u8]| Resp::new(None).decode(bytes).map_err(|failure| failure.exit);
        assert_eq!(decode(b"+OK\r\n+OK"), Ok(Some((5, Answer::Done))));
        assert_eq!(decode(b":1\r\n"), Ok(Some((4, Answer::Done))));
        assert_eq!(decode(b"$-1\r\n"), Ok(Some((5, Answer::Missing))));
        assert_eq!(decode(b"$3\r\nabc\r\n"), Ok(Some((9, Answer::Done))));
        for part in 0..9 {
            assert_eq!(decode(&b"$3\r\nabc\r\n"[..part]), Ok(None), "{part}");
        }
        assert_eq!(decode(b"-NOAUTH x\r\n"), Err(Exit::Auth));
        assert_eq!(decode(b"-ERR x\r\n"), Err(Exit::Other));
        assert_eq!(decode(b"HTTP/1.1 400\r\n"), Err(Exit::Usage));
    }
}
