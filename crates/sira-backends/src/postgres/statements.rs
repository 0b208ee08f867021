//! The text of every statement, made once for a table.

use sira_store::Condition;

/// A table, quoted, and the statements over it.
///
/// Parameters 1 to 3 are namespace, area and key (or keys). A guard is judged on the row as it is
/// when its lock was got; what such a statement answers beside, when it changed nothing, is the row
/// as it was when the statement began.
#[derive(Debug)]
pub(super) struct Statements {
    /// The table as SQL names it.
    pub(super) table: String,
    puts: [String; KINDS],
    removals: [String; KINDS / 2],
    pub(super) put_many: String,
    pub(super) put_many_exact: String,
    pub(super) held_many: String,
    pub(super) remove_many: String,
    /// Answers false, version and expiry of a row that nobody changes until the transaction ends.
    pub(super) hold: String,
    pub(super) head: String,
    pub(super) whole: String,
    pub(super) range: String,
    pub(super) many: String,
    pub(super) scan: String,
    pub(super) collect: String,
    pub(super) stats: String,
}

/// Kinds of guards of a put: those of conditions, with and without exact versions.
const KINDS: usize = 10;

const COLUMNS: &str = "namespace, area, key, version, expires_at, size, envelope, body";

/// What replaces a row.
const REPLACE: &str = "expires_at = excluded.expires_at, size = excluded.size, \
                       envelope = excluded.envelope, body = excluded.body";

const ROW: &str = "o.namespace = $1 AND o.area = $2 AND o.key = $3";

/// Each condition once, in the order of [`kind`].
const CONDITIONS: [Condition; KINDS / 2] = [
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
    pub(super) fn new(schema: Option<&str>, name: &str) -> Self {
        let table = match schema {
            Some(schema) => format!("\"{schema}\".\"{name}\""),
            None => format!("\"{name}\""),
        };
        let head = "version, expires_at, size, envelope";
        let here = format!("FROM {table} o WHERE {ROW}");
        // Each key is looked up by itself. Where keys are compared with a list, a plan that was made
        // while the table was small reads all of a namespace and throws most of it away.
        let each = |columns: &str| {
            format!(
                "unnest($3::bytea[]) AS wanted(key) CROSS JOIN LATERAL (SELECT {columns} \
                 FROM {table} o WHERE o.namespace = $1 AND o.area = $2 AND o.key = wanted.key"
            )
        };
        Self {
            puts: std::array::from_fn(|at| put(&table, CONDITIONS[at % 5], at >= 5)),
            removals: CONDITIONS.map(|condition| remove(&table, condition)),
            put_many: put_many(
                &table,
                &format!("SET version = GREATEST(excluded.version, o.version + 1), {REPLACE}"),
            ),
            put_many_exact: put_many(
                &table,
                &format!(
                    "SET version = excluded.version, {REPLACE} WHERE o.version < excluded.version"
                ),
            ),
            held_many: format!(
                "SELECT wanted.key, found.* FROM {} LIMIT 1) found",
                each("version, expires_at")
            ),
            // Rows are locked in the order of keys, as puts lock them.
            remove_many: format!(
                "WITH doomed AS (SELECT found.place FROM {} FOR UPDATE LIMIT 1) found) \
                 DELETE FROM {table} o USING doomed WHERE o.ctid = doomed.place",
                each("ctid AS place")
            ),
            hold: format!("SELECT false, version, expires_at {here} FOR SHARE"),
            head: format!("SELECT {head} {here}"),
            whole: format!("SELECT {head}, body {here}"),
            range: format!("SELECT {head}, substring(body FROM $4 FOR $5) {here}"),
            many: format!(
                "SELECT found.*, wanted.key FROM {} LIMIT 1) found",
                each(&format!("{head}, body"))
            ),
            scan: format!(
                "SELECT key, size, version, expires_at FROM {table} \
                 WHERE namespace = $1 AND area = $2 AND key >= $3 AND key < $4 \
                 ORDER BY key LIMIT $5"
            ),
            collect: format!(
                "WITH gone AS (DELETE FROM {table} WHERE expires_at <= $1 AND ctid = ANY(ARRAY(\
                 SELECT ctid FROM {table} WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 \
                 FOR UPDATE SKIP LOCKED)) RETURNING 1) SELECT count(*) FROM gone"
            ),
            stats: "SELECT pg_total_relation_size(oid), pg_stat_get_live_tuples(oid), \
                    pg_stat_get_dead_tuples(oid) FROM pg_class WHERE oid = to_regclass($1)"
                .to_owned(),
            table,
        }
    }

    /// Puts one row. Parameters 4 to 8 are the record; then, as the condition needs them, the time
    /// and the version it names. A blind put answers the version, any other whether it was done,
    /// and version and expiry.
    pub(super) fn put(&self, condition: Condition, exact: bool) -> &str {
        let kind = kind(condition) + if exact { KINDS / 2 } else { 0 };
        self.puts.get(kind).map_or("", String::as_str)
    }

    /// Removes one row. Then, as the condition needs them, the time and the version it names.
    /// Answers whether it was done, and version and expiry.
    pub(super) fn remove(&self, condition: Condition) -> &str {
        self.removals.get(kind(condition)).map_or("", String::as_str)
    }
}

/// Puts several rows, and answers keys and versions of those that it wrote.
fn put_many(table: &str, replace: &str) -> String {
    format!(
        "INSERT INTO {table} AS o ({COLUMNS}) \
         SELECT $1, $2, r.* FROM unnest($3::bytea[], $4::bigint[], $5::bigint[], \
         $6::bigint[], $7::bytea[], $8::bytea[]) AS r \
         ON CONFLICT (namespace, area, key) DO UPDATE {replace} RETURNING o.key, o.version"
    )
}

/// The condition over the row `o`, with the parameter of the time and that of the version.
fn holds(condition: Condition, now: usize, version: usize) -> String {
    let live = format!("(o.expires_at IS NULL OR o.expires_at > ${now})");
    match condition {
        Condition::Always => "true".to_owned(),
        Condition::IfAbsent => format!("o.expires_at <= ${now}"),
        Condition::IfPresent => live,
        Condition::IfMatch(_) => format!("(o.version = ${version} AND {live})"),
        Condition::IfNoneMatch(_) => format!("NOT (o.version = ${version} AND {live})"),
    }
}

fn put(table: &str, condition: Condition, exact: bool) -> String {
    let next = if exact { "$4" } else { "GREATEST($4, o.version + 1)" };
    let mut holds = holds(condition, 9, 10);
    if exact {
        holds.push_str(" AND o.version < $4");
    }
    let write = match condition {
        Condition::IfPresent | Condition::IfMatch(_) => format!(
            "UPDATE {table} o SET version = {next}, expires_at = $5, size = $6, envelope = $7, \
             body = $8 WHERE {ROW} AND {holds}"
        ),
        _ => {
            let insert = format!(
                "INSERT INTO {table} AS o ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
                 ON CONFLICT (namespace, area, key) DO UPDATE SET version = {next}, {REPLACE}"
            );
            if condition == Condition::Always && !exact {
                return format!("{insert} RETURNING o.version");
            }
            format!("{insert} WHERE {holds}")
        }
    };
    or_held(table, &write)
}

fn remove(table: &str, condition: Condition) -> String {
    let delete = format!("DELETE FROM {table} o WHERE {ROW} AND {}", holds(condition, 4, 5));
    or_held(table, &delete)
}

/// A statement that answers with the row that it wrote, or else with the one that it left.
fn or_held(table: &str, write: &str) -> String {
    format!(
        "WITH done AS ({write} RETURNING o.version, o.expires_at) \
         SELECT true, version, expires_at FROM done UNION ALL \
         SELECT false, o.version, o.expires_at FROM {table} o \
         WHERE {ROW} AND NOT EXISTS (SELECT FROM done)"
    )
}
