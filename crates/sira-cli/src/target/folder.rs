//! A folder, opened in this process.

use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::placement::Catalog;
use sira_store::seal::{Keyring, SealOptions};
use sira_store::{
    BatchOperation, BatchResult, Condition, EmbeddedBackend, ListOptions, ListPage, ObjectHead,
    ReadOptions, Result, SealingBackend, StorageBackend, StorageError, StorageOptions, Version,
};
use tokio::runtime::Runtime;

use super::{Access, Body, Download, Target, WHOLE_BYTES_MAX};
use crate::config::storage::KeyringSource;
use crate::config::{Config, Setting};
use crate::failure::{Exit, Failure, Outcome};
use crate::path::Location;
use crate::units::parse_durability;

/// Bytes of one part of a streamed value.
const PART_BYTES: usize = 256 * 1024;

/// Opens the engine of a folder.
///
/// # Errors
/// When another process holds the folder, when it cannot be read or written, or is not there and
/// may not be made.
pub fn open_engine(config: &Config, access: Access) -> Outcome<Arc<Engine>> {
    let root = Path::new(config.text(Setting::Root));
    let source = &config.get(Setting::Root).source;
    if access == Access::Read && !root.is_dir() {
        return Err(Failure::not_found(format!(
            "there is no folder {} ({source})",
            root.display()
        ))
        .hint("name the data folder of the server with --root DIR"));
    }
    if access == Access::Read && !holds_store(root) {
        return Err(Failure::not_found(format!("{} holds no store ({source})", root.display()))
            .hint("name the data folder of the server with --root DIR"));
    }
    let durability = config.parse(Setting::Durability, parse_durability)?;
    Engine::open(root, EngineOptions { durability, ..EngineOptions::default() })
        .map_err(|error| explain(root, Failure::from(error)))
}

/// Whether opening the folder finds a store, or an empty folder that can become one. Any other
/// folder was named by mistake, and reading it must not fill it with files.
pub fn holds_store(root: &Path) -> bool {
    root.join(".metadata").join("log.json").is_file()
        || std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none())
}

/// Says which folder cannot be opened, and what helps.
fn explain(root: &Path, failure: Failure) -> Failure {
    let shown = root.display();
    let failure = failure.context(format_args!("cannot open the data folder {shown}"));
    match (failure.code.as_str(), failure.exit) {
        ("locked", _) => failure.hint(
            "stop that process, or talk to it: leave out --root and use --server http://HOST:PORT",
        ),
        // Exit code 6 speaks of tokens; here the file system refused.
        ("permission_denied", _) => failure
            .hint(format!("ls -ld {shown}; give this user the folder, or choose another --root"))
            .exit(Exit::Fatal),
        ("corrupt" | "read_only", _) => failure.hint(format!("sira log verify --root {shown}")),
        _ => failure,
    }
}

/// A folder as a target. The engine's own threads do the syncing; the runtime only drives the
/// adapter's futures.
pub struct FolderTarget {
    backend: EmbeddedBackend,
    engine: Arc<Engine>,
    keyring: Arc<Keyring>,
    runtime: Runtime,
}

impl FolderTarget {
    /// Opens the folder that the configuration names.
    ///
    /// # Errors
    /// As [`open_engine`].
    pub fn open(config: &Config, access: Access) -> Outcome<Self> {
        let engine = open_engine(config, access)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("sira-folder")
            .enable_all()
            .build()
            .map_err(|error| Failure::io("cannot start threads", &error))?;
        let backend = EmbeddedBackend::new(Arc::clone(&engine));
        let keyring = config.storage().keyring.as_ref().map(KeyringSource::open).transpose()?;
        Ok(Self { backend, engine, keyring: Arc::new(keyring.unwrap_or_default()), runtime })
    }

    /// What is stored in a namespace, opened where it was compressed or encrypted.
    fn find(&self, namespace: &str) -> Result<Option<SealingBackend>> {
        self.check_whole(namespace)?;
        let found = self.backend.find_namespace(namespace)?;
        Ok(found.map(|found| self.opened(namespace, found)))
    }

    fn opened(&self, namespace: &str, backend: EmbeddedBackend) -> SealingBackend {
        let keyring = Arc::clone(&self.keyring);
        SealingBackend::new(Arc::new(backend), namespace, keyring, SealOptions::default())
    }

    /// Refuses a namespace of which other backends may hold a part.
    fn check_whole(&self, namespace: &str) -> Result<()> {
        let Some(records) = self.backend.find_namespace(Catalog::RECORDS)? else { return Ok(()) };
        let known = !Catalog::owns(namespace)
            && self.runtime.block_on(records.exists(namespace)).unwrap_or(true);
        if known {
            return Err(StorageError::unsupported(
                "objects of the namespace may lie on other backends than this folder: start the \
                 server, and leave out --root",
            )
            .with_namespace(namespace));
        }
        Ok(())
    }
}

impl Target for FolderTarget {
    fn put(&self, at: &Location, body: Body, options: &StorageOptions) -> Result<Version> {
        self.check_whole(&at.namespace)?;
        let backend = self.opened(&at.namespace, self.backend.namespace(&at.namespace)?);
        let options = options.clone();
        let Body { mut reader, len } = body;
        if let Some(len) = len.filter(|len| *len <= WHOLE_BYTES_MAX) {
            let bytes = read_exactly(&mut reader, len)?;
            return self.runtime.block_on(backend.put(&at.key, bytes, options));
        }
        let parts = Box::pin(Parts { reader, left: len });
        self.runtime.block_on(backend.put_stream(&at.key, parts, options))
    }

    fn get(&self, at: &Location, range: Option<Range<u64>>) -> Result<Option<Download>> {
        let Some(backend) = self.find(&at.namespace)? else { return Ok(None) };
        let options = ReadOptions { range, condition: Condition::Always };
        let object = self.runtime.block_on(backend.read(&at.key, options))?;
        Ok(object.map(|object| Download {
            head: object.head,
            len: object.value.len() as u64,
            reader: Box::new(Cursor::new(object.value)),
        }))
    }

    fn head(&self, at: &Location) -> Result<Option<ObjectHead>> {
        let Some(backend) = self.find(&at.namespace)? else { return Ok(None) };
        self.runtime.block_on(backend.head(&at.key))
    }

    fn remove(&self, at: &Location, condition: Condition) -> Result<bool> {
        let Some(backend) = self.find(&at.namespace)? else {
            condition.require(None)?;
            return Ok(false);
        };
        self.runtime.block_on(backend.remove(&at.key, condition))
    }

    fn remove_all(&self, namespace: &str, keys: Vec<String>) -> Result<()> {
        let Some(backend) = self.find(namespace)? else { return Ok(()) };
        let operations = keys.into_iter().map(BatchOperation::delete).collect();
        for result in self.runtime.block_on(backend.batch(operations))? {
            if let BatchResult::Error(error) = result {
                return Err(error);
            }
        }
        Ok(())
    }

    fn list(&self, namespace: &str, options: ListOptions, details: bool) -> Result<ListPage> {
        let Some(backend) = self.find(namespace)? else { return Ok(ListPage::default()) };
        self.runtime.block_on(async {
            let mut page = backend.list(options).await?;
            if details {
                for entry in &mut page.entries {
                    if let Some(head) = backend.head(&entry.key).await? {
                        entry.version = Some(head.version);
                        entry.expires_at_ms = head.expires_at_ms;
                    }
                }
            }
            Ok(page)
        })
    }

    fn namespaces(&self) -> Result<Vec<String>> {
        Ok(self.backend.namespaces())
    }

    fn close(&self) -> Result<()> {
        self.engine.close()
    }
}

fn read_exactly(reader: &mut dyn Read, len: u64) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
    reader.take(len.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == len { Ok(bytes.into()) } else { Err(changed(len).into()) }
}

/// The error of a file whose length is not what it was when it was opened.
fn changed(expected: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the file had {expected} bytes when it was opened and has changed since; try again"
        ),
    )
}

/// A reader as a stream of parts. It blocks while it reads, on the thread that waits for the write
/// and does nothing else.
struct Parts {
    reader: Box<dyn Read + Send>,
    left: Option<u64>,
}

impl Parts {
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut part = Vec::with_capacity(PART_BYTES);
        (&mut self.reader).take(PART_BYTES as u64).read_to_end(&mut part)?;
        if let Some(left) = self.left {
            let read = part.len() as u64;
            let expected = left.min(PART_BYTES as u64);
            if read != expected {
                return Err(changed(left));
            }
            self.left = Some(left - read);
        }
        Ok(if part.is_empty() { None } else { Some(part.into()) })
    }
}

impl Stream for Parts {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.next().transpose())
    }
}
