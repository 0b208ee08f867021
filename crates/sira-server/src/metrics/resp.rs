//! The RESP door's counters as Prometheus text.

use crate::metrics::{Kind, MetricFamilies};
use crate::resp::{CommandStats, LATENCY_BUCKETS, RespStats};

/// Writes a snapshot of the RESP door's counters.
pub fn write(stats: &RespStats, out: &mut MetricFamilies) {
    use Kind::{Counter, Gauge};
    for (name, kind, help, value) in [
        ("sira_resp_connections", Gauge, "Open RESP connections.", stats.connected_clients),
        (
            "sira_resp_connections_accepted_total",
            Counter,
            "RESP connections taken.",
            stats.connections_received,
        ),
        (
            "sira_resp_connections_refused_total",
            Counter,
            "RESP connections refused because there were too many.",
            stats.connections_rejected,
        ),
        ("sira_resp_commands_processed_total", Counter, "Commands run.", stats.commands_processed),
        (
            "sira_resp_error_replies_total",
            Counter,
            "Replies that were errors.",
            stats.error_replies,
        ),
        ("sira_resp_input_bytes_total", Counter, "Bytes received.", stats.input_bytes),
        ("sira_resp_output_bytes_total", Counter, "Bytes sent.", stats.output_bytes),
        ("sira_resp_event_loops", Gauge, "Event loops that serve clients.", stats.loops),
    ] {
        out.metric(name, kind, help, value as f64);
    }

    let name = "sira_resp_request_duration_seconds";
    out.family(name, Kind::Histogram, "Time from having read requests to their encoded replies.");
    let bounds: Vec<f64> =
        (0..LATENCY_BUCKETS - 1).map(|bucket| (1_u64 << bucket) as f64 / 1e6).collect();
    out.histogram(&[], &bounds, &stats.latency, stats.latency_sum_usec as f64 / 1e6);

    type Figure = fn(&CommandStats) -> f64;
    let figures: [(&str, &str, Figure); 3] = [
        ("sira_resp_commands_total", "Calls of each command.", |command| command.calls as f64),
        (
            "sira_resp_command_failures_total",
            "Calls of each command that answered an error or were refused.",
            |command| (command.failed + command.rejected) as f64,
        ),
        (
            "sira_resp_command_seconds_total",
            "Time in each command, extrapolated from the calls that were timed.",
            |command| command.usec as f64 / 1e6,
        ),
    ];
    for (name, help, figure) in figures {
        out.family(name, Counter, help);
        for command in &stats.commands {
            out.sample(&[("command", command.name)], figure(command));
        }
    }
}
