//! A server, over its HTTP API.

use std::io::{self, Read};
use std::ops::Range;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sira_store::{
    Condition, ListEntry, ListOptions, ListPage, Metadata, ObjectHead, Result, StorageError,
    StorageOptions, Version,
};
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, RequestBuilder, SendBody};

use super::{Body, Download, Target, problem};
use crate::config::{Config, Setting};
use crate::failure::Outcome;
use crate::path::Location;
use crate::units::durability_text;

/// What is not a letter, a digit or one of these is written as `%XX`; `/` stays, as the server
/// takes the rest of the path as the key.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer after the request is sent, and for each part of a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a body from which on the server is asked first whether it takes it.
const EXPECT_BYTES_MIN: u64 = 256 << 10;
/// Longest wait for that; then the body is sent.
const EXPECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that is not an object.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// What the server answers for an object that keeps no media type.
const CONTENT_TYPE_DEFAULT: &str = "application/octet-stream";
/// How the names of the caller's own metadata begin.
const META: &str = "sira-meta-";

/// A server as a target.
pub struct HttpTarget {
    agent: Agent,
    server: String,
    bearer: Option<String>,
}

impl HttpTarget {
    /// A client of the server that the configuration names. Nothing is sent yet.
    ///
    /// # Errors
    /// When the token cannot be read.
    pub fn new(config: &Config) -> Outcome<Self> {
        let server = config.text(Setting::Server).trim_end_matches('/').to_owned();
        let builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_await_100(Some(EXPECT_TIMEOUT))
            .timeout_recv_response(Some(STALL_TIMEOUT))
            .timeout_per_read(Some(STALL_TIMEOUT))
            .timeout_per_write(Some(STALL_TIMEOUT))
            .max_idle_connections_per_host(64)
            .max_idle_connections(64)
            .user_agent(concat!("sira/", env!("CARGO_PKG_VERSION")));
        let builder = if is_loopback(&server) { builder.proxy(None) } else { builder };
        let bearer = config.token()?.map(|token| format!("Bearer {token}"));
        Ok(Self { agent: builder.build().new_agent(), server, bearer })
    }

    /// Asks the server itself: a path that is none of an object, such as `/stats`.
    ///
    /// # Errors
    /// The server's, and those of the way there.
    pub fn ask<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.authorized(self.agent.get(format!("{}{path}", self.server)));
        self.json(self.sent(request.call())?)
    }

    /// Asks the server for a text.
    ///
    /// # Errors
    /// As [`HttpTarget::ask`].
    pub fn text(&self, path: &str) -> Result<String> {
        let request = self.authorized(self.agent.get(format!("{}{path}", self.server)));
        let answer = self.sent(request.call())?;
        if !answer.status().is_success() {
            return Err(self.error(answer));
        }
        let body = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX);
        let body = body.read_to_vec().map_err(|error| transport(&self.server, error))?;
        String::from_utf8(body).map_err(|error| {
            StorageError::invalid_input("the server's answer is no text").with_source(error)
        })
    }

    /// Tells the server something.
    ///
    /// # Errors
    /// As [`HttpTarget::ask`].
    pub fn tell<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| {
            StorageError::invalid_input("the request cannot be written").with_source(error)
        })?;
        let request = self.authorized(self.agent.post(format!("{}{path}", self.server)));
        let request = request.header("content-type", "application/json");
        self.json(self.sent(request.send(&body[..]))?)
    }

    /// Erases something of the server, and reads what it says of it.
    ///
    /// # Errors
    /// As [`HttpTarget::ask`].
    pub fn erase<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.authorized(self.agent.delete(format!("{}{path}", self.server)));
        self.json(self.sent(request.call())?)
    }

    /// Ends something of the server.
    ///
    /// # Errors
    /// As [`HttpTarget::ask`].
    pub fn end(&self, path: &str) -> Result<()> {
        let request = self.authorized(self.agent.delete(format!("{}{path}", self.server)));
        let answer = self.sent(request.call())?;
        if answer.status().is_success() { Ok(()) } else { Err(self.error(answer)) }
    }

    fn url(&self, namespace: &str, key: Option<&str>) -> String {
        let namespace = utf8_percent_encode(namespace, PATH);
        match key {
            Some(key) => {
                format!("{}/v1/{namespace}/{}", self.server, utf8_percent_encode(key, PATH))
            }
            None => format!("{}/v1/{namespace}", self.server),
        }
    }

    fn url_asked(&self, at: &Location, asked: Option<&str>) -> String {
        let url = self.url(&at.namespace, Some(&at.key));
        asked.map_or(url.clone(), |asked| format!("{url}?{asked}"))
    }

    /// Opens an object as these query parameters ask, or a range of its bytes.
    ///
    /// # Errors
    /// As [`Target::get`].
    pub fn get_asked(
        &self,
        at: &Location,
        range: Option<Range<u64>>,
        asked: Option<&str>,
    ) -> Result<Option<Download>> {
        if range.as_ref().is_some_and(Range::is_empty) {
            let Some(head) = self.head_asked(at, asked)? else { return Ok(None) };
            return Ok(Some(Download { head, len: 0, reader: Box::new(io::empty()) }));
        }
        let mut request = self.authorized(self.agent.get(self.url_asked(at, asked)));
        if let Some(Range { start, end }) = range {
            request = request.header("range", format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        let answer = self.sent(request.call())?;
        match answer.status().as_u16() {
            404 => return self.absent(&answer).map(|()| None),
            200 | 206 => {}
            _ => return Err(self.error(answer)),
        }
        let headers = answer.headers();
        let len = header(headers, "content-length")
            .and_then(|len| len.parse().ok())
            .ok_or_else(|| self.no_sira("no length of the object"))?;
        let size = header(headers, "content-range")
            .and_then(|range| range.rsplit_once('/'))
            .and_then(|(_, size)| size.parse().ok())
            .unwrap_or(len);
        let head = self.read_head(headers, size)?;
        let reader = answer.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Some(Download { head, len, reader: Box::new(reader) }))
    }

    fn head_asked(&self, at: &Location, asked: Option<&str>) -> Result<Option<ObjectHead>> {
        let request = self.authorized(self.agent.head(self.url_asked(at, asked)));
        let answer = self.sent(request.call())?;
        match answer.status().as_u16() {
            404 => self.absent(&answer).map(|()| None),
            200 => {
                let size = header(answer.headers(), "content-length")
                    .and_then(|len| len.parse().ok())
                    .ok_or_else(|| self.no_sira("no length of the object"))?;
                self.read_head(answer.headers(), size).map(Some)
            }
            _ => Err(self.error(answer)),
        }
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.bearer {
            Some(bearer) => request.header("authorization", bearer),
            None => request,
        }
    }

    fn sent(
        &self,
        result: std::result::Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<Response<ureq::Body>> {
        result.map_err(|error| transport(&self.server, error))
    }

    fn error(&self, answer: Response<ureq::Body>) -> StorageError {
        let status = answer.status().as_u16();
        let missing = self.bearer.is_none();
        let body = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let error = problem::read(status, &body.unwrap_or_default());
        match (status, missing) {
            (401, true) => StorageError::permission_denied(format!(
                "{} wants a token: export SIRA_TOKEN=..., or name a file with --token-file",
                self.server
            )),
            _ => error,
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&self, answer: Response<ureq::Body>) -> Result<T> {
        if !answer.status().is_success() {
            return Err(self.error(answer));
        }
        let body = answer
            .into_body()
            .into_with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| transport(&self.server, error))?;
        serde_json::from_slice(&body).map_err(|error| self.no_sira(&error.to_string()))
    }

    /// Takes a 404 for what is not there only from a Sira server, which answers a problem document:
    /// anything else would make every key look missing.
    fn absent(&self, answer: &Response<ureq::Body>) -> Result<()> {
        match header(answer.headers(), "content-type") {
            Some("application/problem+json") => Ok(()),
            _ => Err(self.no_sira("a 404 that is no problem document")),
        }
    }

    fn no_sira(&self, why: &str) -> StorageError {
        StorageError::unsupported(format!(
            "{} does not answer like a Sira server ({why}); check --server",
            self.server
        ))
    }

    fn read_head(&self, headers: &HeaderMap, size: u64) -> Result<ObjectHead> {
        let version = header(headers, "etag")
            .and_then(|tag| tag.trim_start_matches("W/").trim_matches('"').parse().ok())
            .ok_or_else(|| self.no_sira("no version in the ETag"))?;
        let mut metadata = Metadata {
            content_type: header(headers, "content-type")
                .filter(|content_type| *content_type != CONTENT_TYPE_DEFAULT)
                .map(str::to_owned),
            ..Metadata::default()
        };
        for (name, value) in headers {
            if let (Some(name), Ok(value)) =
                (name.as_str().strip_prefix(META), std::str::from_utf8(value.as_bytes()))
            {
                metadata.user.insert(name.to_owned(), value.to_owned());
            }
        }
        let expires_at_ms = header(headers, "sira-expires-at-ms").and_then(|ms| ms.parse().ok());
        Ok(ObjectHead { version, size, expires_at_ms, metadata })
    }
}

impl Target for HttpTarget {
    fn put(&self, at: &Location, body: Body, options: &StorageOptions) -> Result<Version> {
        let request = self.authorized(self.agent.put(self.url(&at.namespace, Some(&at.key))));
        let request = with_condition(request, options.condition);
        let request = with_options(request, options)?;
        let Body { mut reader, len } = body;
        // The server refuses a large body before it is sent, not by closing the connection under it.
        let large = len.is_none_or(|len| len > EXPECT_BYTES_MIN);
        let request = if large { request.header("expect", "100-continue") } else { request };
        let request = match len {
            Some(len) => request.header("content-length", len.to_string()),
            None => request,
        };
        let mut exact = Exact { reader: &mut *reader, left: len };
        let result = request.send(SendBody::from_reader(&mut exact));
        let answer = self.sent(result)?;
        if !answer.status().is_success() {
            return Err(self.error(answer));
        }
        Ok(self.read_head(answer.headers(), 0)?.version)
    }

    fn get(&self, at: &Location, range: Option<Range<u64>>) -> Result<Option<Download>> {
        self.get_asked(at, range, None)
    }

    fn head(&self, at: &Location) -> Result<Option<ObjectHead>> {
        self.head_asked(at, None)
    }

    fn remove(&self, at: &Location, condition: Condition) -> Result<bool> {
        let request = self.authorized(self.agent.delete(self.url(&at.namespace, Some(&at.key))));
        let answer = self.sent(with_condition(request, condition).call())?;
        match answer.status().as_u16() {
            404 => self.absent(&answer).map(|()| false),
            200..=299 => Ok(true),
            _ => Err(self.error(answer)),
        }
    }

    fn remove_all(&self, namespace: &str, keys: Vec<String>) -> Result<()> {
        let operations =
            keys.into_iter().map(|key| WireDelete { op: "delete", key }).collect::<Vec<_>>();
        let body = serde_json::to_vec(&WireBatch { operations })
            .map_err(|error| StorageError::invalid_input(error.to_string()))?;
        let request = self.authorized(self.agent.post(self.url(namespace, Some("_batch"))));
        let answer = self.sent(request.content_type("application/json").send(&body))?;
        if answer.status().is_success() { Ok(()) } else { Err(self.error(answer)) }
    }

    fn list(&self, namespace: &str, options: ListOptions, details: bool) -> Result<ListPage> {
        let mut request = self.authorized(self.agent.get(self.url(namespace, None)));
        if !options.prefix.is_empty() {
            request = request.query("prefix", &options.prefix);
        }
        if let Some(delimiter) = options.delimiter.as_ref().filter(|text| !text.is_empty()) {
            request = request.query("delimiter", delimiter);
        }
        if let Some(start_after) = &options.start_after {
            request = request.query("start_after", start_after);
        }
        if options.limit > 0 {
            request = request.query("limit", options.limit.to_string());
        }
        if details {
            request = request.query("details", "true");
        }
        let answer = self.sent(request.call())?;
        // A namespace that nobody has written to.
        if answer.status().as_u16() == 404 {
            return self.absent(&answer).map(|()| ListPage::default());
        }
        let page: WirePage = self.json(answer)?;
        Ok(page.into())
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        let request = self.authorized(self.agent.get(format!("{}/v1", self.server)));
        let answer: WireNamespaces = self.json(self.sent(request.call())?)?;
        Ok(answer.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct WireBatch {
    operations: Vec<WireDelete>,
}

#[derive(Serialize)]
struct WireDelete {
    op: &'static str,
    key: String,
}

#[derive(Deserialize)]
struct WireNamespaces {
    namespaces: Vec<WireNamespace>,
}

#[derive(Deserialize)]
struct WireNamespace {
    name: String,
}

#[derive(Deserialize)]
struct WirePage {
    entries: Vec<WireEntry>,
    #[serde(default)]
    common_prefixes: Vec<String>,
    #[serde(default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct WireEntry {
    key: String,
    size: u64,
    version: Option<String>,
    expires_at_ms: Option<u64>,
}

impl From<WirePage> for ListPage {
    fn from(page: WirePage) -> Self {
        let entry = |entry: WireEntry| ListEntry {
            key: entry.key,
            size: entry.size,
            version: entry.version.and_then(|version| version.parse().ok()),
            expires_at_ms: entry.expires_at_ms,
        };
        Self {
            entries: page.entries.into_iter().map(entry).collect(),
            common_prefixes: page.common_prefixes,
            next: page.next,
        }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn with_condition<B>(request: RequestBuilder<B>, condition: Condition) -> RequestBuilder<B> {
    match condition {
        Condition::Always => request,
        Condition::IfAbsent => request.header("if-none-match", "*"),
        Condition::IfPresent => request.header("if-match", "*"),
        Condition::IfMatch(version) => request.header("if-match", format!("\"{version}\"")),
        Condition::IfNoneMatch(version) => {
            request.header("if-none-match", format!("\"{version}\""))
        }
    }
}

fn with_options<B>(
    mut request: RequestBuilder<B>,
    options: &StorageOptions,
) -> Result<RequestBuilder<B>> {
    // Refuses names that the store would not take either, before anything is sent.
    options.metadata.encode()?;
    if let Some(ttl) = options.ttl {
        request = request.header("sira-ttl", format!("{}ms", ttl.as_millis()));
    }
    if let Some(durability) = options.durability {
        request = request.header("sira-durability", durability_text(durability));
    }
    if let Some(content_type) = &options.metadata.content_type {
        request = request.header("content-type", content_type);
    }
    for (name, value) in &options.metadata.user {
        if value.chars().any(char::is_control) {
            return Err(StorageError::invalid_input(format!(
                "the value of metadata {name:?} holds a control character, which HTTP cannot carry"
            )));
        }
        request = request.header_raw(&format!("{META}{name}"), value.as_bytes());
    }
    Ok(request)
}

/// Whether the server is on this machine, so that a proxy of the environment does not apply.
fn is_loopback(server: &str) -> bool {
    let host = server.trim_start_matches("http://");
    let host = host.strip_prefix('[').map_or_else(
        || host.split(':').next().unwrap_or_default(),
        |rest| rest.split(']').next().unwrap_or_default(),
    );
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn transport(server: &str, error: ureq::Error) -> StorageError {
    use std::io::ErrorKind;
    match error {
        ureq::Error::HostNotFound => StorageError::unavailable(format!(
            "no address for the host of {server}; check --server"
        )),
        ureq::Error::ConnectionFailed => unreachable_server(server, "connection failed"),
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            unreachable_server(server, "no answer in time")
        }
        ureq::Error::Timeout(_) => StorageError::timeout(format!("{server} does not answer")),
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::ConnectionRefused => unreachable_server(server, "connection refused"),
            ErrorKind::InvalidData => StorageError::invalid_input(error.to_string()),
            ErrorKind::TimedOut => StorageError::timeout(format!("{server} does not answer")),
            _ => StorageError::unavailable(format!("the connection to {server} broke: {error}"))
                .with_source(error),
        },
        error => StorageError::io(format!("the request to {server} failed: {error}")),
    }
}

fn unreachable_server(server: &str, why: &str) -> StorageError {
    StorageError::unavailable(format!(
        "no server at {server} ({why}). Start one with `sira serve`, name another with --server, or \
         work on a folder with --root DIR"
    ))
}

/// A reader that fails unless it gives exactly the bytes that were announced.
struct Exact<'a> {
    reader: &'a mut (dyn Read + Send),
    left: Option<u64>,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let Some(left) = self.left else { return Ok(count) };
        let changed = count as u64 > left || (count == 0 && left > 0 && !buffer.is_empty());
        if changed {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file has changed its length while it was read; try again",
            ));
        }
        self.left = Some(left - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
