//! The stored form of a ledger: its table of pages, and a page of keys.
//!
//! `docs/formats/ledger.md` has the diagrams.

use crate::error::{Result, StorageError};
use crate::migration::Side;
use crate::version::Version;

/// Version of the format, first in every object of a ledger.
const FORMAT: u8 = 1;

/// Second byte of the table.
const KIND_TABLE: u8 = 1;

/// Second byte of a page.
const KIND_PAGE: u8 = 2;

/// Bytes of the checksum that ends every object.
const CRC_BYTES: usize = 4;

const FLAG_AGREED: u8 = 1;
const FLAG_PENDING: u8 = 2;
const FLAG_TO_TARGET: u8 = 4;

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::migration) struct Entry {
    /// The version that both sides had.
    pub(in crate::migration) agreed: Option<Version>,
    /// A write that was about to be made when this was put down.
    pub(in crate::migration) pending: Option<Pending>,
}

/// A write of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::migration) struct Pending {
    /// Version that it stores.
    pub(in crate::migration) version: Version,
    /// Side that it goes to.
    pub(in crate::migration) to: Side,
}

impl Entry {
    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A page and the keys that it is about: from `from` up to where the next one begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageRef {
    pub(super) from: String,
    pub(super) number: u64,
}

/// What the table says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    /// Runs that have opened the ledger; the upper half of the numbers of the pages that a run makes.
    pub(super) epoch: u32,
    /// Pages that the run of this epoch has made; the lower half of the next one's number.
    pub(super) made: u32,
    /// Pages in the order of their keys; the first begins with the empty key.
    pub(super) pages: Vec<PageRef>,
    /// Pages that were replaced and may still be there.
    pub(super) retired: Vec<u64>,
}

impl Table {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut out = vec![FORMAT, KIND_TABLE, 0, 0];
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.made.to_le_bytes());
        out.extend_from_slice(&count(self.pages.len())?.to_le_bytes());
        out.extend_from_slice(&count(self.retired.len())?.to_le_bytes());
        for page in &self.pages {
            out.extend_from_slice(&page.number.to_le_bytes());
            out.extend_from_slice(&length(page.from.len())?.to_le_bytes());
            out.extend_from_slice(page.from.as_bytes());
        }
        for number in &self.retired {
            out.extend_from_slice(&number.to_le_bytes());
        }
        Ok(sealed(out))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut rest = opened(bytes, KIND_TABLE)?;
        let (epoch, made) = (rest.u32()?, rest.u32()?);
        let (pages, retired) = (rest.u32()?, rest.u32()?);
        let mut table = Self { epoch, made, ..Self::default() };
        for _ in 0..pages {
            let number = rest.u64()?;
            let len = rest.u16()?;
            let from = text(rest.take(usize::from(len))?.to_vec())?;
            if table.pages.last().is_some_and(|last| last.from >= from) {
                return Err(wrong("pages that do not ascend"));
            }
            table.pages.push(PageRef { from, number });
        }
        if table.pages.first().is_some_and(|first| !first.from.is_empty()) {
            return Err(wrong("no page for the first keys"));
        }
        for _ in 0..retired {
            table.retired.push(rest.u64()?);
        }
        rest.end()?;
        Ok(table)
    }
}

/// The stored form of a page; keys ascend.
pub(super) fn encode_page(number: u64, entries: &[(String, Entry)]) -> Result<Vec<u8>> {
    let mut out = vec![FORMAT, KIND_PAGE, 0, 0];
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&count(entries.len())?.to_le_bytes());
    let mut before: &[u8] = &[];
    for (key, entry) in entries {
        let key = key.as_bytes();
        let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
        out.extend_from_slice(&length(shared)?.to_le_bytes());
        out.extend_from_slice(&length(key.len() - shared)?.to_le_bytes());
        out.push(flags(entry));
        out.extend_from_slice(key.get(shared..).unwrap_or_default());
        let pending = entry.pending.map(|pending| pending.version);
        for version in [entry.agreed, pending].into_iter().flatten() {
            out.extend_from_slice(&version.as_u64().to_le_bytes());
        }
        before = key;
    }
    Ok(sealed(out))
}

/// Reads the page of this number.
pub(super) fn decode_page(bytes: &[u8], number: u64) -> Result<Vec<(String, Entry)>> {
    let mut rest = opened(bytes, KIND_PAGE)?;
    if rest.u64()? != number {
        return Err(wrong("another page"));
    }
    let count = rest.u32()?;
    let mut entries: Vec<(String, Entry)> = Vec::new();
    for _ in 0..count {
        let (shared, len, flags) = (rest.u16()?, rest.u16()?, rest.u8()?);
        let before = entries.last().map_or(&[][..], |(key, _)| key.as_bytes());
        let mut key = before
            .get(..usize::from(shared))
            .ok_or_else(|| wrong("a key that shares more than there is"))?
            .to_vec();
        key.extend_from_slice(rest.take(usize::from(len))?);
        let key = text(key)?;
        let mut version =
            |flag: u8| (flags & flag != 0).then(|| rest.u64().map(Version::from_u64)).transpose();
        let (agreed, pending) = (version(FLAG_AGREED)?, version(FLAG_PENDING)?);
        let to = if flags & FLAG_TO_TARGET != 0 { Side::Target } else { Side::Source };
        let pending = pending.map(|version| Pending { version, to });
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err(wrong("keys that do not ascend"));
        }
        entries.push((key, Entry { agreed, pending }));
    }
    rest.end()?;
    Ok(entries)
}

fn flags(entry: &Entry) -> u8 {
    let to_target = entry.pending.is_some_and(|pending| pending.to == Side::Target);
    [
        (entry.agreed.is_some(), FLAG_AGREED),
        (entry.pending.is_some(), FLAG_PENDING),
        (to_target, FLAG_TO_TARGET),
    ]
    .into_iter()
    .fold(0, |flags, (set, flag)| flags | if set { flag } else { 0 })
}

fn sealed(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// What stands between the first four bytes and the checksum, once that is checked.
fn opened(bytes: &[u8], kind: u8) -> Result<Rest<'_>> {
    let Some((covered, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
        return Err(wrong("too few bytes"));
    };
    match covered {
        [format, ..] if *format != FORMAT => Err(StorageError::unsupported(format!(
            "the ledger of the sync has format {format}, and this version of Sira reads format {FORMAT}"
        ))),
        _ if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) => Err(wrong("a wrong checksum")),
        [_, found, _, _, rest @ ..] if *found == kind => Ok(Rest(rest)),
        _ => Err(wrong("another kind")),
    }
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else {
            return Err(wrong("too few bytes"));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some((taken, rest)) = self.0.split_first_chunk() else {
            return Err(wrong("too few bytes"));
        };
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.chunk()?))
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(wrong("bytes behind its end")) }
    }
}

fn count(len: usize) -> Result<u32> {
    u32::try_from(len).map_err(|_| StorageError::too_large("the ledger of the sync is too large"))
}

fn length(len: usize) -> Result<u16> {
    u16::try_from(len).map_err(|_| StorageError::too_large("a key is too long for a ledger"))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| wrong("a key that is not UTF-8").with_source(error))
}

pub(super) fn wrong(what: &str) -> StorageError {
    StorageError::corrupt(format!(
        "the ledger of the sync cannot be read: it has {what}. Delete it to begin anew: nothing is \
         removed then, and what was removed on one side only comes back"
    ))
}
