//! `CONFIG`: settings as Redis names them.

use sira_store::Durability;

use crate::limits::{RESP_BULK_BYTES_MAX, RESP_DATABASES, RESP_QUERY_BUFFER_BYTES_MAX};

use super::super::glob;
use super::super::shared::Shared;
use super::{Call, Failure, Outcome};

/// Settings that clients may change although nothing follows from them here: they tune what Redis
/// does inside, and tools set them as a matter of course.
const HARMLESS: &[(&str, &str)] = &[
    ("activedefrag", "no"),
    ("active-expire-effort", "1"),
    ("hash-max-listpack-entries", "128"),
    ("hash-max-listpack-value", "64"),
    ("hash-max-ziplist-entries", "128"),
    ("hash-max-ziplist-value", "64"),
    ("hz", "10"),
    ("latency-monitor-threshold", "0"),
    ("latency-tracking", "yes"),
    ("lazyfree-lazy-eviction", "no"),
    ("lazyfree-lazy-expire", "no"),
    ("lazyfree-lazy-server-del", "no"),
    ("lazyfree-lazy-user-del", "no"),
    ("lazyfree-lazy-user-flush", "no"),
    ("lfu-decay-time", "1"),
    ("lfu-log-factor", "10"),
    ("list-max-listpack-size", "-2"),
    ("list-max-ziplist-size", "-2"),
    ("loglevel", "notice"),
    ("maxmemory-samples", "5"),
    ("save", ""),
    ("set-max-intset-entries", "512"),
    ("slowlog-log-slower-than", "10000"),
    ("slowlog-max-len", "128"),
    ("timeout", "0"),
    ("zset-max-listpack-entries", "128"),
    ("zset-max-listpack-value", "64"),
    ("zset-max-ziplist-entries", "128"),
    ("zset-max-ziplist-value", "64"),
];

/// Settings that follow from how the server was started.
fn fixed(shared: &Shared) -> Vec<(&'static str, String)> {
    let config = &shared.config;
    let fsync = match config.durability {
        Durability::Sync => "always",
        Durability::Interval(_) => "everysec",
        Durability::None => "no",
    };
    vec![
        ("appendfsync", fsync.to_owned()),
        ("appendonly", "yes".to_owned()),
        ("bind", shared.addr.ip().to_string()),
        ("client-query-buffer-limit", RESP_QUERY_BUFFER_BYTES_MAX.to_string()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", RESP_DATABASES.to_string()),
        ("io-threads", "1".to_owned()),
        ("maxclients", config.max_connections.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("notify-keyspace-events", String::new()),
        ("port", shared.addr.port().to_string()),
        ("proto-max-bulk-len", RESP_BULK_BYTES_MAX.to_string()),
        ("tcp-keepalive", "300".to_owned()),
    ]
}

pub(in super::super) fn config_get(call: &mut Call<'_, '_>) -> Outcome {
    let mut all: Vec<(&str, String)> = fixed(call.shared);
    let changed = call.shared.settings.lock().clone();
    for (name, value) in HARMLESS {
        let value = changed.get(*name).cloned().unwrap_or_else(|| (*value).to_owned());
        all.push((name, value));
    }
    all.retain(|(name, _)| {
        call.args.from(2).any(|pattern| glob::matches(pattern, name.as_bytes(), true))
    });
    call.out.map(all.len());
    for (name, value) in all {
        call.out.text(name);
        call.out.text(&value);
    }
    Ok(())
}

pub(in super::super) fn config_set(call: &mut Call<'_, '_>) -> Outcome {
    if !call.args.len().is_multiple_of(2) {
        return Err(Failure::SYNTAX);
    }
    let fixed = fixed(call.shared);
    let mut changes: Vec<(String, String)> = Vec::new();
    for index in (2..call.args.len()).step_by(2) {
        let name = String::from_utf8_lossy(call.arg(index)).to_ascii_lowercase();
        let value = String::from_utf8_lossy(call.arg(index + 1)).into_owned();
        let refuse = |reason: &str| {
            Failure::text(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ))
        };
        if changes.iter().any(|(had, _)| *had == name) {
            return Err(refuse("duplicate parameter"));
        }
        if let Some((_, current)) = fixed.iter().find(|(known, _)| *known == name) {
            if !value.eq_ignore_ascii_case(current) {
                return Err(refuse("this server's settings are given when it starts"));
            }
        } else if HARMLESS.iter().any(|(known, _)| *known == name) {
            changes.push((name, value));
        } else {
            return Err(Failure::text(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            )));
        }
    }
    call.shared.settings.lock().extend(changes);
    call.out.ok();
    Ok(())
}

pub(in super::super) fn config_resetstat(call: &mut Call<'_, '_>) -> Outcome {
    for stats in &call.shared.stats {
        stats.reset();
    }
    call.out.ok();
    Ok(())
}

pub(in super::super) fn config_rewrite(_call: &mut Call<'_, '_>) -> Outcome {
    Err(Failure::fixed("ERR The server is running without a config file"))
}

pub(in super::super) fn config_help(call: &mut Call<'_, '_>) -> Outcome {
    call.help(
        "CONFIG",
        &[
            "GET <pattern> [<pattern> ...]",
            "    Settings by Redis' names.",
            "SET <name> <value> [<name> <value> ...]",
            "    Accepts settings that change nothing here.",
            "RESETSTAT",
            "    Sets counters back.",
        ],
    )
}
