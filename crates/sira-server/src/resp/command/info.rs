//! `INFO`: how the server is doing, in Redis' sections.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use sira_store::Durability;

use crate::limits::RESP_DATABASES;

use super::super::REDIS_VERSION;
use super::{Call, Outcome};

/// Sections in order, and whether they are shown when none is named.
const SECTIONS: &[(&str, bool)] = &[
    ("server", true),
    ("clients", true),
    ("memory", true),
    ("persistence", true),
    ("stats", true),
    ("replication", true),
    ("cpu", true),
    ("modules", true),
    ("commandstats", false),
    ("errorstats", true),
    ("latencystats", false),
    ("cluster", true),
    ("keyspace", true),
];

pub(in super::super) fn info(call: &mut Call<'_, '_>) -> Outcome {
    let named: Vec<Vec<u8>> = call.args.from(1).map(<[u8]>::to_ascii_lowercase).collect();
    let is = |name: &str| named.iter().any(|wanted| wanted == name.as_bytes());
    let (all, default) = (is("all") || is("everything"), named.is_empty() || is("default"));
    let mut text = String::new();
    for (name, usual) in SECTIONS {
        if all || default && *usual || is(name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            section(call, name, &mut text)?;
        }
    }
    call.out.verbatim(&text);
    Ok(())
}

fn section(call: &Call<'_, '_>, name: &str, out: &mut String) -> Outcome {
    let title = match name {
        "cpu" => "CPU".to_owned(),
        name => {
            let mut letters = name.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
                .collect()
        }
    };
    let _ = write!(out, "# {title}\r\n");
    let shared = call.shared;
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = write!(out, "{name}:{value}\r\n");
    };
    match name {
        "server" => {
            let uptime = shared.env.monotonic().saturating_sub(shared.started).as_secs();
            line("redis_version", &REDIS_VERSION);
            line("sira_version", &env!("CARGO_PKG_VERSION"));
            line("redis_git_sha1", &"00000000");
            line("redis_git_dirty", &0);
            line("redis_mode", &"standalone");
            line("os", &format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
            line("arch_bits", &usize::BITS);
            line("multiplexing_api", &"epoll");
            line("process_id", &std::process::id());
            line("run_id", &shared.run_id);
            line("tcp_port", &shared.addr.port());
            line("server_time_usec", &(shared.env.now_ms() * 1000));
            line("uptime_in_seconds", &uptime);
            line("uptime_in_days", &(uptime / 86_400));
            line("hz", &10);
            line("executable", &"sira");
            line("config_file", &"");
        }
        "clients" => {
            let blocked = shared
                .clients
                .lock()
                .values()
                .filter(|info| info.blocked.load(Ordering::Relaxed))
                .count();
            line("connected_clients", &shared.connected.load(Ordering::Relaxed));
            line("cluster_connections", &0);
            line("maxclients", &shared.config.max_connections);
            line("client_recent_max_input_buffer", &shared.query_bytes.load(Ordering::Relaxed));
            line("blocked_clients", &blocked);
            line("tracking_clients", &0);
        }
        "memory" => {
            let resident = resident_bytes();
            line("used_memory", &resident);
            line("used_memory_human", &format!("{:.2}M", resident as f64 / 1_048_576.0));
            line("used_memory_rss", &resident);
            line("used_memory_peak", &resident);
            line("maxmemory", &0);
            line("maxmemory_human", &"0B");
            line("maxmemory_policy", &"noeviction");
            line("mem_fragmentation_ratio", &"1.00");
            line("mem_allocator", &"system");
        }
        "persistence" => {
            let writable = call.data.engine().check_writable().is_ok();
            line("loading", &0);
            line("async_loading", &0);
            let saved = shared.saved_writes.load(Ordering::Relaxed);
            line("rdb_changes_since_last_save", &shared.snapshot().writes.saturating_sub(saved));
            line("rdb_bgsave_in_progress", &0);
            line("rdb_last_save_time", &shared.saved_s.load(Ordering::Relaxed));
            line("rdb_last_bgsave_status", &"ok");
            line("aof_enabled", &1);
            line("aof_rewrite_in_progress", &0);
            line("aof_rewrite_scheduled", &0);
            line("aof_last_bgrewrite_status", &"ok");
            line("aof_last_write_status", &if writable { "ok" } else { "err" });
            line(
                "sira_durability",
                &match shared.config.durability {
                    Durability::Sync => "sync".to_owned(),
                    Durability::Interval(ms) => format!("interval:{ms}"),
                    Durability::None => "none".to_owned(),
                },
            );
        }
        "stats" => {
            let stats = shared.snapshot();
            line("total_connections_received", &stats.connections_received);
            line("total_commands_processed", &stats.commands_processed);
            line("total_net_input_bytes", &stats.input_bytes);
            line("total_net_output_bytes", &stats.output_bytes);
            line("rejected_connections", &stats.connections_rejected);
            line("expired_keys", &0);
            line("evicted_keys", &0);
            line("total_error_replies", &stats.error_replies);
        }
        "replication" => {
            line("role", &"master");
            line("connected_slaves", &0);
            line("master_failover_state", &"no-failover");
            line("master_replid", &shared.run_id);
            line("master_repl_offset", &0);
        }
        "commandstats" => {
            for command in shared.snapshot().commands {
                let each = command.usec as f64 / command.calls.max(1) as f64;
                line(
                    &format!("cmdstat_{}", command.name),
                    &format!(
                        "calls={},usec={},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
                        command.calls, command.usec, command.rejected, command.failed
                    ),
                );
            }
        }
        "errorstats" => {
            let errors = shared.snapshot().error_replies;
            if errors > 0 {
                line("errorstat_ERR", &format!("count={errors}"));
            }
        }
        "latencystats" => {
            for (bucket, count) in shared.snapshot().latency.iter().enumerate() {
                if *count > 0 {
                    line(&format!("batch_latency_usec_below_{}", 1_u64 << bucket), count);
                }
            }
        }
        "cpu" => {
            let (system, user) = cpu_seconds();
            line("used_cpu_sys", &format!("{system:.6}"));
            line("used_cpu_user", &format!("{user:.6}"));
        }
        "cluster" => line("cluster_enabled", &0),
        "keyspace" => {
            for database in 0..RESP_DATABASES {
                let space = call.data.space(database as u8);
                // Counting what lies away takes a listing of it.
                let keys = if space.is_away() { 0 } else { call.data.count(space)? };
                if keys > 0 {
                    line(&format!("db{database}"), &format!("keys={keys},expires=0,avg_ttl=0"));
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Memory of the process, in bytes; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Time of the process in the system and outside, in seconds.
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before the last parenthesis may hold blanks.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = rest.split_ascii_whitespace().skip(11).map(|ticks| ticks.parse::<f64>());
    let mut next = || ticks.next().and_then(Result::ok).unwrap_or(0.0);
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let user = next() / per_second;
    (next() / per_second, user)
}
