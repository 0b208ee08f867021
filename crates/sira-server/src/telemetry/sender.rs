//! Sends to a collector, and tells when that does not work.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use parking_lot::Mutex;
use sira_store::env::Env;
use tokio::runtime::Handle;

/// Most bytes of a collector's answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// At most one line about failures in this time.
const QUIET: Duration = Duration::from_secs(60);

/// An HTTP client that works on the server's runtime, whichever thread asks.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

impl Sender {
    pub(super) fn new(timeout: Duration, runtime: Handle) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, runtime })
    }
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let exchange = async move {
            let request = request.try_into().map_err(describe)?;
            let mut answer = client.execute(request).await.map_err(describe)?;
            let mut response = http::Response::new(Bytes::new());
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            let mut body = BytesMut::new();
            while let Some(piece) = answer.chunk().await.map_err(describe)? {
                if body.len() + piece.len() > ANSWER_BYTES_MAX {
                    return Err("the collector's answer is too large".into());
                }
                body.extend_from_slice(&piece);
            }
            *response.body_mut() = body.freeze();
            Ok(response)
        };
        self.runtime.spawn(exchange).await?
    }
}

/// The error with its causes, which a client's own text leaves out, and without the address.
fn describe(error: reqwest::Error) -> HttpError {
    let error = error.without_url();
    let causes =
        std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ").into()
}

/// Tells failures in the log, at most one a minute whatever fails.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    env: Arc<dyn Env>,
    told: Arc<Mutex<Option<Duration>>>,
}

impl Reporter {
    pub(super) fn new(env: Arc<dyn Env>) -> Self {
        Self { env, told: Arc::default() }
    }

    pub(super) fn failed(&self, signal: &str, error: &dyn std::fmt::Display) {
        if self.may_tell() {
            tracing::warn!(
                signal,
                %error,
                "telemetry does not reach its collector and is dropped; requests go on"
            );
        }
    }

    fn may_tell(&self) -> bool {
        let now = self.env.monotonic();
        let mut told = self.told.lock();
        let may = told.is_none_or(|told| now.saturating_sub(told) >= QUIET);
        if may {
            *told = Some(now);
        }
        may
    }
}

/// An exporter of spans whose failures are told.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) exporter: opentelemetry_otlp::SpanExporter,
    pub(super) reporter: Reporter,
}

impl SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result {
            self.reporter.failed("traces", error);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests;
