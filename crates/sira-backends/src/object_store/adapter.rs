//! The one place that knows OpenDAL: objects by path, each call with its deadline.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use opendal::options::{DeleteOptions, ListOptions, ReaderOptions, WriteOptions};
use opendal::{Buffer, BufferStream, ErrorKind, HttpTransporter, Lister, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use sira_store::env::{Env, SystemEnv};
use sira_store::{Result, Retry, StorageError};

use super::error::{self, Effect, Secrets};
use super::options::ObjectStoreOptions;

/// How often a call is made that the store fails at.
const CALLS: u32 = 4;

/// What identifies the content of an object: its ETag, or its generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Tag {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What must hold of an object for a write.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand<'a> {
    Nothing,
    Absent,
    Same(&'a Tag),
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Found {
    Absent,
    /// The object is not the one that was asked for.
    Changed,
    Object(Fetched),
}

/// An object, or the range of it that was asked for.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) bytes: Bytes,
    tag: Option<Tag>,
}

/// What a store tells of an object without its bytes.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) size: u64,
    pub(super) content_type: Option<String>,
    pub(super) tag: Tag,
}

impl Fetched {
    /// # Errors
    /// [`StorageError::Unsupported`] when the store tells none.
    pub(super) fn tag(&self) -> Result<&Tag> {
        self.tag.as_ref().ok_or_else(no_tag)
    }
}

fn no_tag() -> StorageError {
    StorageError::unsupported(
        "the store told no ETag of an object, without which nothing can be conditional",
    )
}

/// An object that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Where the store tells it at once.
    pub(super) tag: Option<Tag>,
}

/// How tags are told and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagKind {
    /// As ETags, with their quotes.
    Quoted,
    /// As ETags, without.
    Unquoted,
    /// As generations.
    Generation,
}

/// A bucket.
pub(super) struct Store {
    operator: Operator,
    tags: TagKind,
    about: String,
    secrets: Secrets,
    options: ObjectStoreOptions,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("about", &self.about).field("tags", &self.tags).finish()
    }
}

impl Store {
    /// `about` names the bucket in errors.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for settings that OpenDAL refuses, and those of the CA file.
    pub(super) fn new(
        operator: opendal::Result<Operator>,
        tags: TagKind,
        about: String,
        secrets: Secrets,
        options: ObjectStoreOptions,
    ) -> Result<Self> {
        let operator = operator.map_err(|error| {
            StorageError::invalid_input(format!(
                "{about} cannot be used as configured: {}",
                secrets.redact(error.message())
            ))
        })?;
        let transport = HttpTransporter::new(ReqwestTransport::new(client(&options)?));
        let context = operator.context().with_http_transport(transport);
        Ok(Self { operator: operator.with_context(context), tags, about, secrets, options })
    }

    pub(super) fn options(&self) -> &ObjectStoreOptions {
        &self.options
    }

    pub(super) fn tags(&self) -> TagKind {
        self.tags
    }

    pub(super) fn set_tags(&mut self, tags: TagKind) {
        self.tags = tags;
    }

    /// An object or a range of it, if it is still the one with this tag.
    pub(super) async fn get(
        &self,
        path: &str,
        range: Option<Range<u64>>,
        same: Option<&Tag>,
    ) -> Result<Found> {
        let mut options = ReaderOptions::default();
        match (same, self.tags) {
            (Some(tag), TagKind::Generation) => options.if_version_match = Some(tag.0.clone()),
            (Some(tag), _) => options.if_match = Some(tag.0.clone()),
            (None, _) => {}
        }
        let bytes =
            range.as_ref().map_or(self.options.body_bytes_max, |range| range.end - range.start);
        let fetched = self
            .bounded(
                bytes,
                Effect::None,
                repeated(|| async {
                    let reader = self.operator.reader_options(path, options.clone()).await?;
                    let mut stream = match range.clone() {
                        Some(range) => reader.into_stream(range).await?,
                        None => reader.into_stream(..).await?,
                    };
                    let metadata = stream.metadata().await?;
                    let size = metadata.content_length();
                    let range = range.clone().unwrap_or(0..size);
                    let expected = range.end.min(size).saturating_sub(range.start);
                    let bytes = collect(&mut stream, expected).await?;
                    Ok(Fetched { bytes, tag: self.tag(&metadata) })
                }),
            )
            .await?;
        match fetched {
            // Some stores ignore the condition.
            Ok(fetched) if same.is_some() && fetched.tag.as_ref() != same => Ok(Found::Changed),
            Ok(fetched) => Ok(Found::Object(fetched)),
            Err(error) if error::is_absent(&error) => Ok(Found::Absent),
            Err(error) if error.kind() == ErrorKind::ConditionNotMatch => Ok(Found::Changed),
            Err(error) => Err(self.error(&error, Effect::None)),
        }
    }

    /// What is told of an object.
    pub(super) async fn stat(&self, path: &str) -> Result<Option<Seen>> {
        let stat = repeated(|| self.operator.stat(path));
        match self.bounded(0, Effect::None, stat).await? {
            Ok(metadata) => Ok(Some(Seen {
                size: metadata.content_length(),
                content_type: metadata.content_type().map(str::to_owned),
                tag: self.tag(&metadata).ok_or_else(no_tag)?,
            })),
            Err(error) if error::is_absent(&error) => Ok(None),
            Err(error) => Err(self.error(&error, Effect::None)),
        }
    }

    /// Writes an object; `None` if what was demanded did not hold.
    pub(super) async fn put(
        &self,
        path: &str,
        body: Vec<Bytes>,
        demand: Demand<'_>,
    ) -> Result<Option<Written>> {
        self.put_as(path, body, None, demand).await
    }

    /// As [`Store::put`], with a media type.
    pub(super) async fn put_as(
        &self,
        path: &str,
        body: Vec<Bytes>,
        content_type: Option<String>,
        demand: Demand<'_>,
    ) -> Result<Option<Written>> {
        let body = Buffer::from(body);
        let mut options = WriteOptions { content_type, ..WriteOptions::default() };
        match (demand, self.tags) {
            (Demand::Nothing, _) if body.len() > self.options.part_bytes => {
                options.chunk = Some(self.options.part_bytes);
                options.concurrent = self.options.parts_concurrent;
            }
            (Demand::Nothing, _) => {}
            (Demand::Absent, _) => options.if_not_exists = true,
            (Demand::Same(tag), TagKind::Generation) => {
                options.if_version_match = Some(tag.0.clone());
            }
            (Demand::Same(tag), _) => options.if_match = Some(tag.0.clone()),
        }
        let bytes = body.len() as u64;
        let write = self.operator.write_options(path, body, options);
        let written = self.bounded(bytes, Effect::Change, write).await?;
        let written = self.applied(written)?;
        Ok(written.map(|metadata| Written { tag: self.tag(&metadata) }))
    }

    /// Deletes an object if it is still the one with this tag, and says whether it was. Without a
    /// tag that is always said.
    pub(super) async fn delete(&self, path: &str, same: Option<&Tag>) -> Result<bool> {
        let mut options = DeleteOptions::default();
        match (same, self.tags) {
            (Some(tag), TagKind::Generation) => options.if_version_match = Some(tag.0.clone()),
            (Some(tag), _) => options.if_match = Some(tag.0.clone()),
            (None, _) => {}
        }
        let delete = self.operator.delete_options(path, options);
        let deleted = self.bounded(0, Effect::Change, delete).await?;
        self.applied(deleted).map(|done| done.is_some())
    }

    /// Objects whose paths begin with `prefix` and come after `after`, in order. `page` is how many
    /// are asked for at once.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<String>,
        page: usize,
    ) -> Result<Listing<'_>> {
        let can_start = self.operator.info().capability().list_with_start_after;
        let options = ListOptions {
            recursive: true,
            limit: Some(page.clamp(1, 1000)),
            start_after: after.clone().filter(|_| can_start),
            ..ListOptions::default()
        };
        let lister = self.operator.lister_options(prefix, options);
        let lister = self.bounded(0, Effect::None, lister).await?;
        let lister = lister.map_err(|error| self.error(&error, Effect::None))?;
        Ok(Listing { store: self, lister, after: after.unwrap_or_default() })
    }

    fn tag(&self, metadata: &opendal::Metadata) -> Option<Tag> {
        let text = match self.tags {
            TagKind::Quoted => metadata.etag(),
            TagKind::Unquoted => metadata.etag().map(|etag| etag.trim_matches('"')),
            TagKind::Generation => metadata.version(),
        };
        text.map(|text| Tag(text.to_owned()))
    }

    /// The answer to a change that took effect; a race that the store itself cut short counts as
    /// lost.
    fn applied<T>(&self, result: opendal::Result<T>) -> Result<Option<T>> {
        match result {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match error.kind() {
                ErrorKind::ConditionNotMatch | ErrorKind::Conflict => Ok(None),
                _ if error::is_overtaken(&error) => Ok(None),
                _ => Err(self.error(&error, Effect::Change)),
            },
        }
    }

    /// A call that ends in time, with a second more for each MiB that it carries.
    async fn bounded<T>(
        &self,
        bytes: u64,
        effect: Effect,
        call: impl Future<Output = opendal::Result<T>>,
    ) -> Result<opendal::Result<T>> {
        let limit = self.options.operation_timeout + Duration::from_secs(bytes >> 20);
        tokio::time::timeout(limit, call).await.map_err(|_| {
            let error = StorageError::timeout(format!(
                "{} gave no answer within {limit:?}; raise operation_timeout if it is slow",
                self.about
            ));
            match effect {
                Effect::None => error.with_retry(Retry::Temporary),
                Effect::Change => error,
            }
        })
    }

    fn error(&self, error: &opendal::Error, effect: Effect) -> StorageError {
        error::of(error, effect, &self.about, &self.secrets)
    }
}

/// Objects that come one by one.
pub(super) struct Listing<'a> {
    store: &'a Store,
    lister: Lister,
    after: String,
}

impl Listing<'_> {
    /// Path and size of the next one.
    pub(super) async fn next(&mut self) -> Result<Option<(String, u64)>> {
        loop {
            let next = self.store.bounded(0, Effect::None, self.lister.try_next()).await?;
            let next = next.map_err(|error| self.store.error(&error, Effect::None))?;
            let Some(entry) = next else { return Ok(None) };
            let (path, metadata) = entry.into_parts();
            if metadata.is_file() && path > self.after {
                return Ok(Some((path, metadata.content_length())));
            }
        }
    }
}

/// A read, made again when the store failed and may not the next time, as the stores' own clients
/// do. Not so a write: one that seemed to fail may still take effect, after the next.
async fn repeated<T, F>(call: impl Fn() -> F) -> opendal::Result<T>
where
    F: Future<Output = opendal::Result<T>>,
{
    let mut attempt = 0;
    loop {
        let result = call().await;
        attempt += 1;
        let again = result
            .as_ref()
            .is_err_and(|error| error.is_temporary() && error.kind() != ErrorKind::RateLimited);
        if !again || attempt == CALLS {
            return result;
        }
        pause(attempt).await;
    }
}

/// Waits before the next attempt, longer each time and not as long as others do.
pub(super) async fn pause(attempt: u32) {
    let most_ms = (2_u64 << attempt.min(6)).min(100);
    tokio::time::sleep(Duration::from_millis(SystemEnv.random_u64() % most_ms)).await;
}

/// The bytes of a stream, copied only when they come in several pieces.
async fn collect(stream: &mut BufferStream, expected: u64) -> opendal::Result<Bytes> {
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    let mut seen = 0;
    loop {
        let buffer = match stream.try_next().await {
            Ok(Some(buffer)) => buffer,
            Ok(None) => break,
            // OpenDAL takes a range that ends past the object's end for an error.
            Err(_) if seen == expected && seen > 0 => break,
            Err(error) => return Err(error),
        };
        for piece in buffer {
            seen += piece.len() as u64;
            if first.is_empty() {
                first = piece;
                continue;
            }
            if joined.is_empty() {
                joined.reserve(usize::try_from(expected).unwrap_or(0));
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&piece);
        }
    }
    if seen != expected {
        let message = format!("the answer had {seen} bytes where {expected} were told");
        return Err(opendal::Error::new(ErrorKind::Unexpected, message).set_temporary());
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// An HTTP client with the connections of one store.
fn client(options: &ObjectStoreOptions) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(options.requests_concurrent.max(options.parts_concurrent) * 4);
    if let Some(path) = &options.ca_file {
        let refused = |why: String| {
            StorageError::invalid_input(format!("the CA file {} {why}", path.display()))
        };
        let pem = std::fs::read(path).map_err(|error| refused(format!("is not read: {error}")))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| refused(format!("holds no certificates: {error}")))?;
        if certificates.is_empty() {
            return Err(refused("holds no certificates".to_owned()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    builder
        .build()
        .map_err(|error| StorageError::unavailable(format!("no HTTP client can be made: {error}")))
}
