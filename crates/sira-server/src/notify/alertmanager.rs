//! Alertmanager's API, version 2.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use super::target::{Door, Refused};
use super::{Alert, Queue};
use crate::timestamp::timestamp;

/// How often all that fire are told again.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// When an alert is over if it is not told again: several requests may be lost before.
const ENDS_AFTER_MS: u64 = 5 * 60 * 1000;

/// Wait after a request that failed.
const PAUSE: Duration = Duration::from_secs(2);

/// An alert as Alertmanager takes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: Labels<'a>,
    annotations: Annotations<'a>,
    starts_at: String,
    ends_at: String,
}

#[derive(Serialize)]
struct Labels<'a> {
    alertname: String,
    backend: &'a str,
    severity: &'static str,
    service: &'static str,
}

#[derive(Serialize)]
struct Annotations<'a> {
    summary: &'a str,
    runbook_url: &'a str,
}

/// Tells all that fire, at each change and again and again, and what is over, without end.
pub(super) async fn serve(door: &Door, queue: &Queue, firing: &(dyn Fn() -> Vec<Alert> + Sync)) {
    let url = format!("{}/api/v2/alerts", door.target.url.trim_end_matches('/'));
    let mut over: Vec<Alert> = Vec::new();
    loop {
        while let Some(alert) = queue.take() {
            let is_same =
                |other: &Alert| (other.key(), other.severity) == (alert.key(), alert.severity);
            // What fires again is not over.
            over.retain(|other| !is_same(other));
            if !alert.is_firing {
                over.push(alert);
            }
        }
        let mut all = firing();
        all.retain(|alert| alert.severity >= door.target.severity);
        all.extend(over.iter().cloned());
        let told = match all.is_empty() {
            true => Ok(()),
            false => request(door, &url, &all).await,
        };
        let wait = match told {
            Ok(()) => {
                queue.outcomes.sent.fetch_add(u64::from(!all.is_empty()), Ordering::Relaxed);
                over.clear();
                TELL_EVERY
            }
            Err(error) => {
                queue.outcomes.failed.fetch_add(1, Ordering::Relaxed);
                let url = door.target.origin();
                tracing::warn!(url, %error, "Alertmanager is not told; it is tried again");
                if !error.is_temporary {
                    over.clear();
                }
                PAUSE
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = queue.arrived.notified() => {}
        }
    }
}

async fn request(door: &Door, url: &str, alerts: &[Alert]) -> Result<(), Refused> {
    let now_ms = door.env.now_ms();
    let posted: Vec<Posted<'_>> = alerts
        .iter()
        .map(|alert| Posted {
            labels: Labels {
                alertname: alertname(&alert.name),
                backend: &alert.backend,
                severity: alert.severity.name(),
                service: "sira",
            },
            annotations: Annotations { summary: &alert.message, runbook_url: &alert.run_book },
            // One that is over began before it ended.
            starts_at: timestamp(alert.at_ms.saturating_sub(u64::from(!alert.is_firing))),
            ends_at: timestamp(match alert.is_firing {
                true => now_ms + ENDS_AFTER_MS,
                false => alert.at_ms,
            }),
        })
        .collect();
    let Ok(body) = serde_json::to_vec(&posted) else { return Ok(()) };
    let token = door.secret().await?.map(|token| ("authorization", format!("Bearer {token}")));
    door.post(url, body, token.as_slice()).await
}

/// `health_capacity` as alerts are called there: `SiraHealthCapacity`.
fn alertname(name: &str) -> String {
    let words = name.split('_').map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    std::iter::once("Sira".to_owned()).chain(words).collect()
}

#[cfg(test)]
mod tests;
