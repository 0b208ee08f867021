//! Files of the archive. See `docs/formats/backup.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::codec::{Reader, close, open, put_u16, put_u32, put_u64};
use super::super::repository::{ARCHIVE, Repository};
use crate::embedded::{LogPlace, LoggedWrite};
use crate::error::{Result, StorageError};
use crate::version::Version;

/// What a file begins with.
const MAGIC: [u8; 4] = *b"SBA1";

/// Values of more bytes lie in files of their own, of this many bytes each.
pub(in super::super) const PART_BYTES: u64 = 32 * 1024 * 1024;

/// Kinds of changes.
const REMOVED: u8 = 0;
const PUT: u8 = 1;

/// Name of a file: whose log it is of, and which records it has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct FileName {
    pub(in super::super) stream: String,
    /// Number of the first record.
    pub(in super::super) first: u64,
    /// Number behind the last record; the first one's where only names have changed.
    pub(in super::super) next: u64,
    /// See [`Header::until_ms`].
    pub(in super::super) until_ms: u64,
}

impl FileName {
    pub(super) fn key(&self) -> String {
        let Self { stream, first, next, until_ms } = self;
        format!("{ARCHIVE}{stream}/{first:016x}-{next:016x}-{until_ms:012x}")
    }

    /// Key of a part of a large value of the file. Parts come before their file.
    pub(super) fn part_key(&self, number: u32) -> String {
        format!("{}.{number:08x}", self.key())
    }

    /// The file that a key is of: its own, or that of one of its parts.
    pub(in super::super) fn of_key(key: &str) -> Option<Self> {
        let (stream, rest) = key.strip_prefix(ARCHIVE)?.split_once('/')?;
        let rest = rest.split_once('.').map_or(rest, |(file, _)| file);
        let mut numbers = rest.split('-').map(|text| u64::from_str_radix(text, 16).ok());
        let mut number = || numbers.next().flatten();
        let (first, next, until_ms) = (number()?, number()?, number()?);
        Some(Self { stream: stream.to_owned(), first, next, until_ms })
    }
}

/// What a file begins with, behind its magic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Header {
    /// Where the stretch begins.
    pub(in super::super) from: LogPlace,
    /// Where the next one does.
    pub(in super::super) next: LogPlace,
    /// Everything that was acknowledged before this time is in this file or one before it.
    pub(in super::super) until_ms: u64,
    /// Time of the earliest change; the greatest number where there is none.
    pub(in super::super) earliest_ms: u64,
    /// Numbers of the namespaces at the end.
    pub(in super::super) names: BTreeMap<String, u32>,
}

/// A change in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Record {
    pub(in super::super) sequence: u64,
    pub(in super::super) time: Version,
    pub(in super::super) namespace: u32,
    pub(in super::super) key: Vec<u8>,
    pub(in super::super) put: Option<RecordPut>,
}

/// What a change stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct RecordPut {
    pub(in super::super) version: Version,
    pub(in super::super) expires_at_ms: Option<u64>,
    pub(in super::super) metadata: Vec<u8>,
    /// Bytes of the value as it is stored.
    pub(in super::super) size: u32,
    /// Where the value begins in the file, where it has no parts.
    pub(in super::super) offset: u64,
    /// Numbers of its parts.
    pub(in super::super) parts: Vec<u32>,
}

/// A file that is being written.
pub(super) struct FileBuilder {
    name: FileName,
    header: Header,
    records: Vec<u8>,
    parts: u32,
}

impl FileBuilder {
    pub(super) fn new(
        name: FileName,
        from: LogPlace,
        next: LogPlace,
        names: BTreeMap<String, u32>,
        until_ms: u64,
    ) -> Self {
        let header = Header { from, next, until_ms, earliest_ms: u64::MAX, names };
        Self { name, header, records: Vec::new(), parts: 0 }
    }

    /// Whether a namespace of this number has a name at the end.
    pub(super) fn has(&self, number: u32) -> bool {
        self.header.names.values().any(|own| *own == number)
    }

    /// Number and key of the next part.
    pub(super) fn part(&mut self) -> (u32, String) {
        let number = self.parts;
        self.parts += 1;
        (number, self.name.part_key(number))
    }

    pub(super) fn push(&mut self, write: &LoggedWrite, parts: &[u32]) {
        self.header.earliest_ms = self.header.earliest_ms.min(write.time.time_ms());
        let out = &mut self.records;
        put_u64(out, write.sequence);
        put_u64(out, write.time.as_u64());
        put_u32(out, write.namespace.as_u32());
        out.push(if write.put.is_some() { PUT } else { REMOVED });
        put_u16(out, write.key.len() as u16);
        out.extend_from_slice(&write.key);
        let Some(put) = &write.put else { return };
        put_u64(out, put.version.as_u64());
        put_u64(out, put.expires_at_ms.unwrap_or(0));
        put_u32(out, put.metadata.len() as u32);
        put_u32(out, put.value.len() as u32);
        put_u32(out, parts.len() as u32);
        for part in parts {
            put_u32(out, *part);
        }
        out.extend_from_slice(&put.metadata);
        if parts.is_empty() {
            out.extend_from_slice(&put.value);
        }
    }

    /// Key and bytes of the file.
    pub(super) fn finish(self) -> Result<(String, Vec<u8>)> {
        let header = serde_json::to_vec(&self.header).map_err(|error| {
            StorageError::invalid_input("a file of the archive cannot be written")
                .with_source(error)
        })?;
        let mut out = MAGIC.to_vec();
        put_u32(&mut out, header.len() as u32);
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.records);
        Ok((self.name.key(), close(out)))
    }
}

fn split(bytes: &[u8]) -> Result<(Header, Reader<'_>)> {
    let mut reader = Reader::new(bytes);
    if reader.bytes(MAGIC.len())? != MAGIC {
        return Err(StorageError::corrupt("a file of the archive is none"));
    }
    let len = reader.u32()?;
    let header = serde_json::from_slice(reader.bytes(len as usize)?).map_err(|error| {
        StorageError::corrupt("a file of the archive cannot be read").with_source(error)
    })?;
    Ok((header, reader))
}

/// Reads a file.
pub(super) fn decode(bytes: &[u8]) -> Result<(Header, Vec<Record>)> {
    let body = open(bytes)?;
    let (header, mut reader) = split(body)?;
    let mut records = Vec::new();
    while !reader.is_empty() {
        let (sequence, time) = (reader.u64()?, Version::from_u64(reader.u64()?));
        let (namespace, kind) = (reader.u32()?, reader.u8()?);
        let key_len = reader.u16()?;
        let key = reader.bytes(key_len.into())?.to_vec();
        let put = match kind {
            REMOVED => None,
            PUT => {
                let version = Version::from_u64(reader.u64()?);
                let expires_at_ms = Some(reader.u64()?).filter(|at| *at > 0);
                let (meta_len, size, count) = (reader.u32()?, reader.u32()?, reader.u32()?);
                let parts: Vec<u32> = (0..count).map(|_| reader.u32()).collect::<Result<_>>()?;
                let metadata = reader.bytes(meta_len as usize)?.to_vec();
                let offset = (body.len() - reader.rest().len()) as u64;
                if parts.is_empty() {
                    reader.bytes(size as usize)?;
                }
                Some(RecordPut { version, expires_at_ms, metadata, size, offset, parts })
            }
            _ => return Err(StorageError::corrupt("a change of the archive is of no kind")),
        };
        records.push(Record { sequence, time, namespace, key, put });
    }
    Ok((header, records))
}

/// The files of a stream in order.
pub(in super::super) async fn names(
    repository: &Repository,
    stream: &str,
) -> Result<Vec<FileName>> {
    let keys = repository.keys(&format!("{ARCHIVE}{stream}/")).await?;
    let files = keys.iter().filter(|key| !key.contains('.'));
    let mut names: Vec<FileName> = files.filter_map(|key| FileName::of_key(key)).collect();
    names.sort();
    Ok(names)
}

/// The header of a file.
pub(in super::super) async fn header(repository: &Repository, name: &FileName) -> Result<Header> {
    let bytes = read(repository, &name.key()).await?;
    split(open(&bytes)?).map(|(header, _)| header).map_err(|error| error.with_key(name.key()))
}

pub(super) async fn read(repository: &Repository, key: &str) -> Result<bytes::Bytes> {
    repository
        .get(key)
        .await?
        .ok_or_else(|| StorageError::corrupt("a file of the archive is missing").with_key(key))
}
