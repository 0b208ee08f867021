//! The text of every statement, made once for a table.

use mysql_async::Value;
use sira_store::driver::Record;
use sira_store::{Condition, Result};

use super::Target;

/// Numbers of rows or keys that one statement takes; other numbers are made of these, so that a
/// connection needs few prepared statements.
pub(super) const SIZES: [usize; 5] = [256, 64, 16, 4, 1];

/// What stands for a parameter in a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parameter {
    Namespace,
    Area,
    Key,
    Stamp,
    Version,
    ExpiresAt,
    Size,
    Envelope,
    Body,
    /// The time at which expiry is judged.
    Now,
    /// The version that a condition names.
    Named,
}

/// Parameters as statements are written here.
const NAMES: [(&str, Parameter); 11] = [
    (":namespace", Parameter::Namespace),
    (":area", Parameter::Area),
    (":key", Parameter::Key),
    (":stamp", Parameter::Stamp),
    (":version", Parameter::Version),
    (":expires_at", Parameter::ExpiresAt),
    (":size", Parameter::Size),
    (":envelope", Parameter::Envelope),
    (":body", Parameter::Body),
    (":now", Parameter::Now),
    (":named", Parameter::Named),
];

/// A statement about one row, and its parameters in their order.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) text: String,
    parameters: Vec<Parameter>,
}

impl Statement {
    fn new(written: &str) -> Self {
        let (mut text, mut parameters) = (String::new(), Vec::new());
        let mut rest = written;
        while let Some(at) = rest.find(':') {
            let (before, after) = rest.split_at(at);
            text.push_str(before);
            let Some((name, parameter)) = NAMES.iter().find(|(name, _)| after.starts_with(name))
            else {
                break;
            };
            text.push('?');
            parameters.push(*parameter);
            rest = after.get(name.len()..).unwrap_or_default();
        }
        text.push_str(rest);
        Self { text, parameters }
    }

    /// The parameters' values. A record belongs to a put, which has a stamp that no other has.
    pub(super) fn values(&self, target: &Target<'_>, put: Option<(&Record, u64)>) -> Vec<Value> {
        let value = |parameter: &Parameter| match (parameter, put) {
            (Parameter::Namespace, _) => Value::Bytes(target.namespace.to_vec()),
            (Parameter::Area, _) => Value::UInt(target.area.into()),
            (Parameter::Key, _) => Value::Bytes(target.key.to_vec()),
            (Parameter::Now, _) => Value::UInt(target.guard.now_ms),
            (Parameter::Named, _) => Value::UInt(match target.guard.condition {
                Condition::IfMatch(version) | Condition::IfNoneMatch(version) => version.as_u64(),
                _ => 0,
            }),
            (parameter, Some((record, stamp))) => match parameter {
                Parameter::Stamp => Value::UInt(stamp),
                Parameter::Version => Value::UInt(record.version.as_u64()),
                Parameter::ExpiresAt => record.expires_at_ms.map_or(Value::NULL, Value::UInt),
                Parameter::Size => Value::UInt(record.size),
                Parameter::Envelope => Value::Bytes(record.envelope.to_vec()),
                _ => Value::Bytes(record.body.to_vec()),
            },
            (_, None) => Value::NULL,
        };
        self.parameters.iter().map(value).collect()
    }
}

/// A table and the statements over it.
///
/// A guard is judged on the row as it is when its lock was got. It is judged once, for the first
/// column that is assigned, `stamp`: the server assigns columns from left to right, and the others
/// follow where the stamp has become this write's. A write says what it did in the two numbers of
/// its answer: the rows it changed, and the "last insert id", which is set to the version of the row
/// that was replaced, or, when nothing was changed, to the version that is held, with [`EXPIRED`]
/// added where that has expired.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) table: String,
    puts: [Statement; 10],
    removals: [Statement; 5],
    pub(super) held: Statement,
    /// As `held`, of a row that nobody changes until the transaction ends.
    pub(super) hold: Statement,
    pub(super) head: Statement,
    pub(super) whole: Statement,
}

/// Added to the version of a row that has expired. Versions reach it in the year 142,000.
pub(super) const EXPIRED: u64 = 1 << 63;

pub(super) const COLUMNS: &str =
    "namespace, area, `key`, stamp, version, expires_at, size, envelope, body";

const ROW: &str = "namespace = :namespace AND area = :area AND `key` = :key";

const LIVE: &str = "(expires_at IS NULL OR expires_at > :now)";

/// Each condition once, in the order of [`kind`].
const CONDITIONS: [Condition; 5] = [
    Condition::Always,
    Condition::IfAbsent,
    Condition::IfPresent,
    Condition::IfMatch(sira_store::Version::from_u64(0)),
    Condition::IfNoneMatch(sira_store::Version::from_u64(0)),
];

const fn kind(condition: Condition) -> usize {
    match condition {
        Condition::Always => 0,
        Condition::IfAbsent => 1,
        Condition::IfPresent => 2,
        Condition::IfMatch(_) => 3,
        Condition::IfNoneMatch(_) => 4,
    }
}

impl Statements {
    pub(super) fn new(table: &str) -> Self {
        let head = "version, expires_at, size, envelope";
        let select =
            |what: &str| Statement::new(&format!("SELECT {what} FROM `{table}` WHERE {ROW}"));
        Self {
            puts: std::array::from_fn(|at| {
                Statement::new(&put(table, CONDITIONS[at % 5], at >= 5))
            }),
            removals: CONDITIONS.map(|condition| Statement::new(&remove(table, condition))),
            held: select("version, expires_at"),
            hold: Statement::new(&format!(
                "SELECT version, expires_at FROM `{table}` WHERE {ROW} LOCK IN SHARE MODE"
            )),
            head: select(head),
            whole: select(&format!("{head}, body")),
            table: table.to_owned(),
        }
    }

    /// Puts one row.
    pub(super) fn put(&self, condition: Condition, exact: bool) -> Result<&Statement> {
        let at = kind(condition) + if exact { CONDITIONS.len() } else { 0 };
        self.puts.get(at).ok_or_else(unknown)
    }

    /// Removes one row that has not expired.
    pub(super) fn remove(&self, condition: Condition) -> Result<&Statement> {
        self.removals.get(kind(condition)).ok_or_else(unknown)
    }

    /// Parameters: start (from 1) and length, namespace, area, key.
    pub(super) fn range(&self) -> String {
        format!(
            "SELECT version, expires_at, size, envelope, SUBSTRING(body, ?, ?) FROM `{}` \
             WHERE namespace = ? AND area = ? AND `key` = ?",
            self.table
        )
    }

    /// Puts several rows without a guard. The last insert id is 0 when all have got the versions
    /// that were sent.
    pub(super) fn put_many(&self, rows: usize) -> String {
        let values = list("(?, ?, ?, ?, ?, ?, ?, ?, ?)", rows);
        format!(
            "INSERT INTO `{}` ({COLUMNS}) VALUES {values} ON DUPLICATE KEY UPDATE \
             version = IF(VALUES(version) > version, VALUES(version), LAST_INSERT_ID(version + 1)), \
             {}",
            self.table,
            replace("TRUE")
        )
    }

    /// Puts several rows of given versions, where those that are held are smaller. The last insert id
    /// is 0 when all were written; those that were have got the stamps that were sent.
    pub(super) fn put_many_exact(&self, rows: usize) -> String {
        let values = list("(?, ?, ?, ?, ?, ?, ?, ?, ?)", rows);
        format!(
            "INSERT INTO `{}` ({COLUMNS}) VALUES {values} ON DUPLICATE KEY UPDATE \
             stamp = IF(version < VALUES(version), VALUES(stamp), \
             IF(LAST_INSERT_ID(version) IS NULL, 0, stamp)), \
             version = IF(stamp = VALUES(stamp), VALUES(version), version), {}",
            self.table,
            replace("stamp = VALUES(stamp)")
        )
    }

    /// Removes several rows without a guard.
    pub(super) fn remove_many(&self, rows: usize) -> String {
        format!("DELETE FROM `{}` WHERE {}", self.table, among(rows))
    }

    /// Reads several rows, keys last.
    pub(super) fn many(&self, rows: usize) -> String {
        format!(
            "SELECT version, expires_at, size, envelope, body, `key` FROM `{}` WHERE {}",
            self.table,
            among(rows)
        )
    }

    /// Keys, versions, expiries and stamps of several rows.
    pub(super) fn held_many(&self, rows: usize) -> String {
        format!(
            "SELECT `key`, version, expires_at, stamp FROM `{}` WHERE {}",
            self.table,
            among(rows)
        )
    }

    /// Parameters: namespace, area, begin, end, limit.
    pub(super) fn scan(&self) -> String {
        format!(
            "SELECT `key`, size, version, expires_at FROM `{}` WHERE namespace = ? AND area = ? \
             AND `key` >= ? AND `key` < ? ORDER BY `key` LIMIT ?",
            self.table
        )
    }

    /// Parameters: time, limit.
    pub(super) fn collect(&self) -> String {
        format!("DELETE FROM `{}` WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", self.table)
    }
}

fn unknown() -> sira_store::StorageError {
    sira_store::StorageError::unsupported("no statement is made for this condition")
}

fn list(what: &str, count: usize) -> String {
    vec![what; count].join(", ")
}

fn among(rows: usize) -> String {
    format!("namespace = ? AND area = ? AND `key` IN ({})", list("?", rows))
}

/// Assignments of what was sent to the columns beside stamp and version, where a condition holds.
fn replace(condition: &str) -> String {
    let column = |name: &str| format!("{name} = IF({condition}, VALUES({name}), {name})");
    ["expires_at", "size", "envelope", "body"].map(column).join(", ")
}

fn holds(condition: Condition) -> String {
    match condition {
        Condition::Always => "TRUE".to_owned(),
        Condition::IfAbsent => format!("NOT {LIVE}"),
        Condition::IfPresent => LIVE.to_owned(),
        Condition::IfMatch(_) => format!("(version = :named AND {LIVE})"),
        Condition::IfNoneMatch(_) => format!("NOT (version = :named AND {LIVE})"),
    }
}

fn put(table: &str, condition: Condition, exact: bool) -> String {
    let insert = format!(
        "INSERT INTO `{table}` ({COLUMNS}) VALUES (:namespace, :area, :key, :stamp, :version, \
         :expires_at, :size, :envelope, :body) ON DUPLICATE KEY UPDATE "
    );
    if condition == Condition::Always && !exact {
        return format!(
            "{insert} version = LAST_INSERT_ID(GREATEST(VALUES(version), version + 1)), {}",
            replace("TRUE")
        );
    }
    let newer = if exact { " AND version < :version" } else { "" };
    let next = if exact { ":version" } else { "GREATEST(:version, version + 1)" };
    let assign = |stamp: &str| {
        format!(
            "stamp = IF({}{newer}, {stamp}, \
             IF(LAST_INSERT_ID(IF({LIVE}, version, version | {EXPIRED})) IS NULL, 0, stamp)), \
             version = IF(stamp = {stamp}, LAST_INSERT_ID({next}), version), ",
            holds(condition)
        )
    };
    match condition {
        Condition::IfPresent | Condition::IfMatch(_) => {
            let column = |name: &str| format!("{name} = IF(stamp = :stamp, :{name}, {name})");
            let columns = ["expires_at", "size", "envelope", "body"].map(column).join(", ");
            format!("UPDATE `{table}` SET {}{columns} WHERE {ROW}", assign(":stamp"))
        }
        _ => format!("{insert}{}{}", assign("VALUES(stamp)"), replace("stamp = VALUES(stamp)")),
    }
}

fn remove(table: &str, condition: Condition) -> String {
    format!("DELETE FROM `{table}` WHERE {ROW} AND {LIVE} AND {}", holds(condition))
}

#[cfg(test)]
mod tests;
