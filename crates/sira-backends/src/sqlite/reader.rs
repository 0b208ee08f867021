//! What readers do, each with a connection of its own.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};
use sira_store::driver::{Expiry, Held, Listed, Part, Record, Scan};
use sira_store::{Result, StorageStats};

use super::error::storage_error;
use crate::sql::number::{time_from, unsigned, version_from};
use crate::sql::{key_text, scan_bounds};

/// Namespace and area, as columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) namespace: Vec<u8>,
    pub(super) area: i16,
}

const ROW: &str = "FROM objects WHERE namespace = ?1 AND area = ?2 AND key = ?3";

fn blob(row: &Row<'_>, at: usize) -> rusqlite::Result<Bytes> {
    match row.get_ref(at)? {
        ValueRef::Blob(bytes) => Ok(Bytes::copy_from_slice(bytes)),
        other => Err(rusqlite::Error::InvalidColumnType(at, String::new(), other.data_type())),
    }
}

/// The columns of a record's head.
struct Head {
    version: i64,
    expires_at: Option<i64>,
    size: i64,
    envelope: Bytes,
}

impl Head {
    fn new(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            version: row.get(0)?,
            expires_at: row.get(1)?,
            size: row.get(2)?,
            envelope: blob(row, 3)?,
        })
    }

    fn into_record(self, body: Bytes) -> Result<Record> {
        let held = held(self.version, self.expires_at)?;
        Ok(Record {
            version: held.version,
            expires_at_ms: held.expires_at_ms,
            size: unsigned(self.size)?,
            envelope: self.envelope,
            body,
        })
    }
}

/// Version and expiry from their columns.
pub(super) fn held(version: i64, expires_at: Option<i64>) -> Result<Held> {
    Ok(Held {
        version: version_from(version)?,
        expires_at_ms: expires_at.map(time_from).transpose()?,
    })
}

pub(super) fn get(
    connection: &Connection,
    place: &Columns,
    key: &str,
    part: Part,
) -> Result<Option<Record>> {
    let read = || -> rusqlite::Result<Option<(Head, Bytes)>> {
        match part {
            Part::Head => head(connection, place, key),
            Part::Whole => whole(connection, place, key),
            Part::Range(range) => {
                // Row and body of one moment.
                let _snapshot = connection.unchecked_transaction()?;
                ranged(connection, place, key, range)
            }
        }
    };
    let Some((head, body)) = read().map_err(storage_error)? else { return Ok(None) };
    head.into_record(body).map(Some)
}

fn head(
    connection: &Connection,
    place: &Columns,
    key: &str,
) -> rusqlite::Result<Option<(Head, Bytes)>> {
    connection
        .prepare_cached(&format!("SELECT version, expires_at, size, envelope {ROW}"))?
        .query_row(params![place.namespace, place.area, key.as_bytes()], |row| {
            Ok((Head::new(row)?, Bytes::new()))
        })
        .optional()
}

fn whole(
    connection: &Connection,
    place: &Columns,
    key: &str,
) -> rusqlite::Result<Option<(Head, Bytes)>> {
    connection
        .prepare_cached(&format!("SELECT version, expires_at, size, envelope, body {ROW}"))?
        .query_row(params![place.namespace, place.area, key.as_bytes()], |row| {
            Ok((Head::new(row)?, blob(row, 4)?))
        })
        .optional()
}

/// Reads the pages of the body that hold the range.
fn ranged(
    connection: &Connection,
    place: &Columns,
    key: &str,
    range: std::ops::Range<u64>,
) -> rusqlite::Result<Option<(Head, Bytes)>> {
    let text = format!("SELECT version, expires_at, size, envelope, rowid, length(body) {ROW}");
    let row = connection
        .prepare_cached(&text)?
        .query_row(params![place.namespace, place.area, key.as_bytes()], |row| {
            Ok((Head::new(row)?, row.get::<_, i64>(4)?, row.get::<_, u64>(5)?))
        })
        .optional()?;
    let Some((head, row, length)) = row else { return Ok(None) };
    let (begin, end) = (range.start.min(length), range.end.min(length));
    let mut body = vec![0; usize::try_from(end.saturating_sub(begin)).unwrap_or(0)];
    if !body.is_empty() {
        let blob = connection.blob_open("main", "objects", "body", row, true)?;
        blob.read_at_exact(&mut body, usize::try_from(begin).unwrap_or(usize::MAX))?;
    }
    Ok(Some((head, body.into())))
}

/// All of one moment.
pub(super) fn get_many(
    connection: &Connection,
    place: &Columns,
    keys: &[String],
) -> Result<Vec<Option<Record>>> {
    let _snapshot = connection.unchecked_transaction().map_err(storage_error)?;
    let mut records = Vec::with_capacity(keys.len());
    for key in keys {
        let row = whole(connection, place, key).map_err(storage_error)?;
        records.push(row.map(|(head, body)| head.into_record(body)).transpose()?);
    }
    Ok(records)
}

pub(super) fn scan(connection: &Connection, place: &Columns, scan: &Scan) -> Result<Vec<Listed>> {
    type Columns4 = (Vec<u8>, i64, i64, Option<i64>);
    let (begin, end) = scan_bounds(scan);
    let read = || -> rusqlite::Result<Vec<Columns4>> {
        let mut statement = connection.prepare_cached(
            "SELECT key, size, version, expires_at FROM objects \
             WHERE namespace = ?1 AND area = ?2 AND key >= ?3 AND key < ?4 ORDER BY key LIMIT ?5",
        )?;
        let limit = i64::try_from(scan.limit).unwrap_or(i64::MAX);
        let rows = statement
            .query_map(params![place.namespace, place.area, begin, end, limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
        rows.collect()
    };
    let listed = |(key, size, version, expires_at): Columns4| {
        let held = held(version, expires_at)?;
        Ok(Listed {
            key: key_text(key)?,
            size: unsigned(size)?,
            version: Some(held.version),
            expiry: Expiry::from(held.expires_at_ms),
        })
    };
    read().map_err(storage_error)?.into_iter().map(listed).collect()
}

pub(super) fn stats(connection: &Connection) -> Result<StorageStats> {
    let read = || -> rusqlite::Result<StorageStats> {
        let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
        let page_bytes = number("page_size")?;
        let used_bytes = number("page_count")? * page_bytes;
        let dead_bytes = number("freelist_count")? * page_bytes;
        let keys = connection
            .prepare_cached("SELECT count(*) FROM objects")?
            .query_row([], |row| row.get(0))?;
        Ok(StorageStats {
            keys,
            live_bytes: used_bytes.saturating_sub(dead_bytes),
            dead_bytes,
            used_bytes,
            segments: 1,
            ..StorageStats::default()
        })
    };
    read().map_err(storage_error)
}

/// Reads the head of the file.
pub(super) fn ping(connection: &Connection) -> Result<()> {
    connection
        .pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))
        .map(|_| ())
        .map_err(storage_error)
}
