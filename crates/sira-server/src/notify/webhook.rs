//! A JSON document for each change: docs/health.md.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::hmac;
use serde::Serialize;

use super::target::{Door, Refused};
use super::{Alert, Queue};
use crate::timestamp::timestamp;

/// Form of the document.
const VERSION: u32 = 1;

/// Header of the signature.
const SIGNATURE: &str = "sira-signature";

/// Requests for one change.
const ATTEMPTS: u32 = 10;

/// Wait after the first failed request; each one after doubles it, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    /// The same for each request about one change.
    id: String,
    alert: &'a str,
    backend: &'a str,
    status: &'static str,
    severity: &'static str,
    message: &'a str,
    at: String,
    run_book: &'a str,
}

/// Sends one change after the other, without end.
pub(super) async fn serve(door: &Door, queue: &Queue) {
    loop {
        while let Some(alert) = queue.take() {
            send(door, queue, &alert).await;
        }
        queue.arrived.notified().await;
    }
}

async fn send(door: &Door, queue: &Queue, alert: &Alert) {
    let document = Document {
        version: VERSION,
        id: format!("{:016x}", door.env.random_u64()),
        alert: &alert.name,
        backend: &alert.backend,
        status: if alert.is_firing { "firing" } else { "resolved" },
        severity: alert.severity.name(),
        message: &alert.message,
        at: timestamp(alert.at_ms),
        run_book: &alert.run_book,
    };
    let Ok(body) = serde_json::to_vec(&document) else { return };
    let mut pause = PAUSE_MIN;
    for attempt in 1..=ATTEMPTS {
        match request(door, &body).await {
            Ok(()) => {
                queue.outcomes.sent.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => {
                queue.outcomes.failed.fetch_add(1, Ordering::Relaxed);
                let url = door.target.origin();
                if attempt == ATTEMPTS || !error.is_temporary {
                    let alert = &alert.name;
                    tracing::error!(url, %error, alert, "a webhook was not told of an alert");
                    return;
                }
                tracing::debug!(url, %error, attempt, "a webhook is told again");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn request(door: &Door, body: &[u8]) -> Result<(), Refused> {
    let mut headers = Vec::new();
    if let Some(secret) = door.secret().await? {
        let at_s = door.env.now_ms() / 1000;
        headers.push((SIGNATURE, signature(secret.as_bytes(), at_s, body)));
    }
    door.post(&door.target.url, body.to_vec(), &headers).await
}

/// The time, and the HMAC-SHA256 of it, a dot and the body: whoever knows the secret can tell who
/// sent the request, and that it is no old one.
fn signature(secret: &[u8], at_s: u64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{at_s}.").as_bytes());
    context.update(body);
    let tag = context.sign();
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at_s},v1={hex}")
}

#[cfg(test)]
mod tests;
