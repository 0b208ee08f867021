//! What the verbs work on: a server, or a folder in this process. Same verbs, same results.

mod folder;
mod http;
mod problem;

pub use folder::{holds_store, open_engine};
pub use http::HttpTarget;

use std::io::Read;
use std::ops::Range;

use sira_store::{Condition, ListOptions, ListPage, ObjectHead, Result, StorageOptions, Version};

use crate::config::{Config, Setting, Source};
use crate::failure::Outcome;
use crate::path::Location;

/// Bytes up to which a value is read whole before it is written.
pub const WHOLE_BYTES_MAX: u64 = 1 << 20;

/// The bytes of a write, read while it is written.
pub struct Body {
    /// Where the bytes come from.
    pub reader: Box<dyn Read + Send>,
    /// How many there are, where that is known; more or fewer are an error then.
    pub len: Option<u64>,
}

/// An object on its way out.
pub struct Download {
    /// All but the bytes.
    pub head: ObjectHead,
    /// Bytes that `reader` gives.
    pub len: u64,
    /// The bytes, or the range of them that was asked for.
    pub reader: Box<dyn Read + Send>,
}

/// A store that the verbs work on.
pub trait Target: Send + Sync {
    /// Writes an object.
    fn put(&self, at: &Location, body: Body, options: &StorageOptions) -> Result<Version>;

    /// Opens an object, or a range of its bytes; `None` when it is not there.
    fn get(&self, at: &Location, range: Option<Range<u64>>) -> Result<Option<Download>>;

    /// All but the bytes of an object; `None` when it is not there.
    fn head(&self, at: &Location) -> Result<Option<ObjectHead>>;

    /// Removes an object and says whether one was there.
    fn remove(&self, at: &Location, condition: Condition) -> Result<bool>;

    /// Removes these objects, whether or not they are there.
    fn remove_all(&self, namespace: &str, keys: Vec<String>) -> Result<()>;

    /// A page of the keys of a namespace; empty when there is no such namespace. With `details`,
    /// each object is looked at for its version and expiry.
    fn list(&self, namespace: &str, options: ListOptions, details: bool) -> Result<ListPage>;

    /// Names of all namespaces, in byte order.
    fn namespaces(&self) -> Result<Vec<String>>;

    /// Makes everything durable and lets go of the store.
    fn close(&self) -> Result<()>;
}

/// Whether a folder may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// The folder must be there.
    Read,
    /// The folder is made if it is not there.
    Write,
}

/// Opens what the flags point at: the folder of `--root`, else the server.
///
/// `SIRA_ROOT` and the file's `root` say where a server keeps its data, not what a verb works on.
///
/// # Errors
/// When the folder cannot be opened, or the token cannot be read.
pub fn open(config: &Config, access: Access) -> Outcome<Box<dyn Target>> {
    if matches!(config.get(Setting::Root).source, Source::Flag(_)) {
        return Ok(Box::new(folder::FolderTarget::open(config, access)?));
    }
    Ok(Box::new(http::HttpTarget::new(config)?))
}

/// Visits every page of a listing until `visit` returns false.
///
/// # Errors
/// What the store or `visit` returns.
pub fn each_page(
    target: &dyn Target,
    namespace: &str,
    mut options: ListOptions,
    details: bool,
    mut visit: impl FnMut(ListPage) -> Outcome<bool>,
) -> Outcome {
    loop {
        let mut page = target.list(namespace, options.clone(), details)?;
        let next = page.next.take();
        if !visit(page)? {
            return Ok(());
        }
        match next {
            Some(next) => options.start_after = Some(next),
            None => return Ok(()),
        }
    }
}
