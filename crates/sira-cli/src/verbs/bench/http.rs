//! HTTP/1.1 with connections that stay open, as far as the load needs it.

use std::io::Write;

use sira_store::Durability;

use super::BENCH_NAMESPACE;
use super::wire::{Answer, Protocol};
use super::workload::{Op, push_key};
use crate::config::{Config, Setting};
use crate::failure::{Exit, Failure, Outcome};
use crate::units::durability_text;

/// Port of an address that names none.
const PORT_DEFAULT: u16 = 80;

/// The HTTP door.
pub struct Http {
    address: String,
    /// Header fields of every request.
    fields: String,
    /// Header fields of every write.
    write_fields: String,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.address)
    }
}

impl Http {
    /// The server that the configuration names.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn new(config: &Config, durability: Option<Durability>) -> Outcome<Self> {
        let server = config.text(Setting::Server).trim_end_matches('/');
        let host = server.trim_start_matches("http://");
        let has_port = host.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let address = if has_port { host.to_owned() } else { format!("{host}:{PORT_DEFAULT}") };
        let mut fields = format!("host: {host}\r\n");
        if let Some(token) = config.token()? {
            fields.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        let write_fields = durability
            .map(|durability| format!("sira-durability: {}\r\n", durability_text(durability)))
            .unwrap_or_default();
        Ok(Self { address, fields, write_fields })
    }

    /// Host and port to connect to.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Protocol for Http {
    fn name(&self) -> String {
        "HTTP".to_owned()
    }

    fn greeting(&self) -> (Vec<u8>, usize) {
        (Vec::new(), 0)
    }

    fn encode(&self, out: &mut Vec<u8>, op: Op, key: u64, value: &[u8]) {
        let method = match op {
            Op::Get => "GET",
            Op::Put => "PUT",
            Op::Delete => "DELETE",
        };
        let _ = write!(out, "{method} /v1/{BENCH_NAMESPACE}/");
        push_key(out, key);
        let _ = write!(out, " HTTP/1.1\r\n{}", self.fields);
        match op {
            Op::Put => {
                let _ = write!(out, "{}content-length: {}\r\n\r\n", self.write_fields, value.len());
                out.extend_from_slice(value);
            }
            Op::Get | Op::Delete => out.extend_from_slice(b"\r\n"),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Outcome<Option<(usize, Answer)>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
        let mut lines = head.split("\r\n");
        let status: u16 = lines
            .next()
            .filter(|line| line.starts_with("HTTP/1.1 "))
            .and_then(|line| line.get(9..12))
            .and_then(|status| status.parse().ok())
            .ok_or_else(foreign)?;
        let mut len = None;
        for line in lines {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse::<usize>().ok();
            }
        }
        let len = match (len, status) {
            (Some(len), _) => len,
            (None, 204 | 304) => 0,
            (None, _) => return Err(foreign()),
        };
        let body = end + 4;
        let Some(answer) = bytes.get(body..body + len) else { return Ok(None) };
        match status {
            200..=299 => Ok(Some((body + len, Answer::Done))),
            404 => Ok(Some((body + len, Answer::Missing))),
            _ => {
                let text = String::from_utf8_lossy(answer).into_owned();
                let exit = match status {
                    401 | 403 => Exit::Auth,
                    429 | 503 | 507 => Exit::Retryable,
                    _ => Exit::Other,
                };
                Err(Failure::other(format!("the server answered {status}: {text}")).exit(exit))
            }
        }
    }
}

fn foreign() -> Failure {
    Failure::usage("the server does not answer like a Sira server; check --server")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http() -> Http {
        Http { address: String::new(), fields: "host: h\r\n".into(), write_fields: String::new() }
    }

    #[test]
    fn requests() {
        let mut out = Vec::new();
        http().encode(&mut out, Op::Put, 7, b"abc");
        http().encode(&mut out, Op::Get, 7, b"abc");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "PUT /v1/sira-bench/key-000000000007 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc\
             GET /v1/sira-bench/key-000000000007 HTTP/1.1\r\nhost: h\r\n\r\n"
        );
    }

    #[test]
    fn answers_are_read_when_they_are_whole() {
        let decode = |text: &str| http().decode(text.as_bytes()).map_err(|failure| failure.exit);
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(decode(whole), Ok(Some((whole.len(), Answer::Done))));
        for part in 0..whole.len() {
            assert_eq!(decode(&whole[..part]), Ok(None), "{part}");
        }
        assert_eq!(decode("HTTP/1.1 204 No Content\r\n\r\n"), Ok(Some((27, Answer::Done))));
        let missing = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(decode(missing), Ok(Some((missing.len(), Answer::Missing))));
        assert_eq!(decode("HTTP/1.1 401 x\r\ncontent-length: 0\r\n\r\n"), Err(Exit::Auth));
        assert_eq!(decode("+OK\r\n\r\n"), Err(Exit::Usage));
    }
}
