//! Pages of a listing, made from any ordered scan of keys.

use std::ops::ControlFlow;

use crate::backend::{ListEntry, ListOptions, ListPage};
use crate::error::Result;
use crate::limits::{LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX};
use crate::version::Version;

/// One live key of a scan.
pub(crate) struct Found<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) size: u64,
    pub(crate) version: Option<Version>,
    pub(crate) expires_at_ms: Option<u64>,
}

/// Called with each key of a scan; says whether it goes on.
pub(crate) type Visit<'a> = dyn FnMut(Found<'_>) -> ControlFlow<()> + 'a;

/// Makes a page. `scan` visits the keys that begin with the prefix and come after the bytes it is
/// given, in byte order, until the visitor breaks.
///
/// A page is a cut of one sorted sequence of names: keys, and common prefixes in the place of what
/// they fold. `start_after` and `next` are names of that sequence. Keys that are not UTF-8 cannot be
/// named here and are left out; a common prefix of none but such keys is left out with them.
pub(crate) fn page(
    options: &ListOptions,
    mut scan: impl FnMut(Option<&[u8]>, &mut Visit<'_>) -> Result<()>,
) -> Result<ListPage> {
    let limit = match options.limit {
        0 => LIST_LIMIT_DEFAULT,
        limit => limit.min(LIST_LIMIT_MAX),
    };
    let delimiter = options.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let common_prefix = |key: &str| {
        let rest = key.strip_prefix(options.prefix.as_str())?;
        let delimiter = delimiter?;
        let end = key.len() - rest.len() + rest.find(delimiter)? + delimiter.len();
        key.get(..end).map(str::to_owned)
    };

    let mut page = ListPage::default();
    let mut more = false;
    let mut last = None;
    // What lies under a common prefix that sorts before `start_after` was folded on an earlier page.
    let mut resume = options.start_after.as_ref().map(|after| match common_prefix(after) {
        Some(folded) => past(&folded),
        None => after.clone().into_bytes(),
    });
    loop {
        let mut skip = None;
        scan(resume.as_deref(), &mut |found| {
            let Ok(key) = std::str::from_utf8(found.key) else {
                return ControlFlow::Continue(());
            };
            if page.entries.len() + page.common_prefixes.len() == limit {
                more = true;
                return ControlFlow::Break(());
            }
            if let Some(folded) = common_prefix(key) {
                skip = Some(past(&folded));
                last = Some(folded.clone());
                page.common_prefixes.push(folded);
                return ControlFlow::Break(());
            }
            last = Some(key.to_owned());
            page.entries.push(ListEntry {
                key: key.to_owned(),
                size: found.size,
                version: found.version,
                expires_at_ms: found.expires_at_ms,
            });
            ControlFlow::Continue(())
        })?;
        if skip.is_none() {
            break;
        }
        resume = skip;
    }
    page.next = last.filter(|_| more);
    Ok(page)
}

/// A place in the byte order after every UTF-8 key that begins with `folded`: no UTF-8 text holds
/// the byte 0xFF.
fn past(folded: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(folded.len() + 1);
    bytes.extend_from_slice(folded.as_bytes());
    bytes.push(0xFF);
    bytes
}

#[cfg(test)]
mod tests;
