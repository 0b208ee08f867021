//! Where alerts are told, and the requests that do.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sira_store::env::Env;
use sira_store::health::HealthState;

/// Longest wait for the answer to a request.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What is spoken at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotifyKind {
    /// A JSON document for each change.
    Webhook,
    /// The API of Prometheus' Alertmanager, version 2.
    Alertmanager,
}

/// Where a secret is kept. It is read for each request, so that it can be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In this variable of the environment.
    Env(String),
    /// In the first line of this file.
    File(PathBuf),
}

impl SecretSource {
    async fn read(&self) -> Result<String, String> {
        match self {
            Self::Env(name) => std::env::var(name)
                .map_err(|_| format!("the variable {name} of the environment is not set")),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                match text.lines().next().map(str::trim) {
                    Some(line) if !line.is_empty() => Ok(line.to_owned()),
                    _ => Err(format!("{} has an empty first line", path.display())),
                }
            }
        }
    }
}

/// Somebody to be told of alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTarget {
    /// What is spoken there.
    pub kind: NotifyKind,
    /// Address: of a webhook the whole, of Alertmanager its root.
    pub url: String,
    /// What signs requests to a webhook, and what Alertmanager is shown as a bearer's token.
    pub secret: Option<SecretSource>,
    /// Alerts of less severity are not told.
    pub severity: HealthState,
}

impl NotifyTarget {
    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            NotifyKind::Webhook => "webhook",
            NotifyKind::Alertmanager => "alertmanager",
        }
    }

    /// The address without its path, which may hold a secret.
    pub(super) fn origin(&self) -> String {
        let url = reqwest::Url::parse(&self.url);
        url.map_or_else(|_| "no address".to_owned(), |url| url.origin().ascii_serialization())
    }
}

/// A target with what reaches it.
pub(super) struct Door {
    pub(super) target: NotifyTarget,
    pub(super) env: Arc<dyn Env>,
    client: reqwest::Client,
}

/// Why a request did not do.
#[derive(Debug)]
pub(super) struct Refused {
    /// Whether the same request may do later.
    pub(super) is_temporary: bool,
    reason: String,
}

impl Refused {
    pub(super) fn temporary(reason: impl Into<String>) -> Self {
        Self { is_temporary: true, reason: reason.into() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Door {
    pub(super) fn new(target: NotifyTarget, env: Arc<dyn Env>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { target, env, client })
    }

    /// The secret, where there is one.
    pub(super) async fn secret(&self) -> Result<Option<String>, Refused> {
        match &self.target.secret {
            Some(source) => source.read().await.map(Some).map_err(Refused::temporary),
            None => Ok(None),
        }
    }

    /// Sends a JSON document with these headers besides.
    pub(super) async fn post(
        &self,
        url: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
    ) -> Result<(), Refused> {
        let mut request =
            self.client.post(url).header("content-type", "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.map_err(|error| {
            let error = error.without_url();
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                error.source()
            });
            let texts: Vec<String> = causes.map(ToString::to_string).collect();
            Refused::temporary(texts.join(": "))
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let is_temporary = status.is_server_error()
            || matches!(status.as_u16(), 401 | 403 | 404 | 408 | 425 | 429);
        Err(Refused { is_temporary, reason: format!("answered {status}") })
    }
}
