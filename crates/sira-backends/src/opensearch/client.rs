//! Requests and their answers.

use std::fmt;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use sira_store::{Result, StorageError};

use super::document::Name;
use super::error;
use crate::deadline::Effect;

/// Sends requests to one index.
pub(super) struct Client {
    http: reqwest::Client,
    /// Ends in a slash and holds no credentials.
    base: Url,
    index: String,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// An answer that is no failure.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Answer {
    /// Whether another writer was in the way.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == StatusCode::CONFLICT
    }

    pub(super) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).map_err(error::malformed)
    }
}

impl Client {
    /// `base` ends in a slash and holds no credentials.
    pub(super) const fn new(
        http: reqwest::Client,
        base: Url,
        index: String,
        authorization: Option<HeaderValue>,
    ) -> Self {
        Self { http, base, index, authorization }
    }

    pub(super) fn index_name(&self) -> &str {
        &self.index
    }

    /// A request about one document. That there is none, and that another writer was in the way, are
    /// no failures.
    pub(super) async fn document(
        &self,
        method: Method,
        name: &Name,
        query: &str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Answer> {
        let path = format!("{}/_doc/{}?{query}", self.index, name.id());
        let answer = self.send(method, &path, "application/json", body, effect).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(answer),
            // Of an index that is not there, the answer tells an error.
            StatusCode::NOT_FOUND if answer.json()?.get("error").is_none() => Ok(answer),
            _ => Self::check(answer, effect),
        }
    }

    /// A request about the index.
    pub(super) async fn index(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Answer> {
        self.root(method, &format!("{}/{path}", self.index), body, effect).await
    }

    /// Many operations on the index.
    pub(super) async fn bulk(&self, body: Vec<u8>) -> Result<Answer> {
        let path = format!("{}/_bulk?require_alias=true", self.index);
        let effect = Effect::Write;
        let sent = self.send(Method::POST, &path, "application/x-ndjson", Some(body), effect);
        Self::check(sent.await?, effect)
    }

    /// A request about anything.
    pub(super) async fn root(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Answer> {
        Self::check(self.send(method, path, "application/json", body, effect).await?, effect)
    }

    fn check(answer: Answer, effect: Effect) -> Result<Answer> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(error::of_status(answer.status, &answer.body, effect))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Option<Vec<u8>>,
        effect: Effect,
    ) -> Result<Answer> {
        let url = self.base.join(path).map_err(|error| {
            StorageError::invalid_input(format!("{path:?} is no path: {error}"))
        })?;
        let mut request = self.http.request(method, url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if let Some(body) = body {
            let content_type = HeaderValue::from_static(content_type);
            request = request.header(CONTENT_TYPE, content_type).body(body);
        }
        let failed = |failure| error::of_request(failure, effect);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let body = response.bytes().await.map_err(failed)?;
        Ok(Answer { status, body })
    }
}
