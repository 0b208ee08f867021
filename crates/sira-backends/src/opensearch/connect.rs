//! Options, the connection, and the index.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use sira_store::{Result, StorageError};

use super::client::Client;
use super::{NAME, OpenSearchDriver, error};
use crate::deadline::{Effect, within};
use crate::tls;

/// Version of what is stored.
const SCHEMA: u64 = 1;

/// How to reach OpenSearch or Elasticsearch, and where records lie there.
#[derive(Clone, PartialEq)]
pub struct OpenSearchOptions {
    /// Address of a node, or of what stands before the nodes: `http://` or `https://`. It may hold
    /// user and password, percent-encoded.
    pub url: String,
    /// Alias of the index; `sira-objects` by default. If it is not there, it is made, for an index
    /// whose name has `-1` at the end.
    pub index: String,
    /// User, where the address holds none.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// An API key of Elasticsearch, in place of user and password.
    pub api_key: Option<String>,
    /// Shards, if the index is made; 1 by default.
    pub shards: u32,
    /// Copies of each shard beside the first, if the index is made; `None` is one where there are
    /// several nodes.
    pub replicas: Option<u32>,
    /// Connections that are kept open; 64 by default.
    pub pool_size: usize,
    /// How long to wait for a connection; 5 s by default.
    pub connect_timeout: Duration,
    /// How long one operation may take; 30 s by default.
    pub operation_timeout: Duration,
    /// Certificates to trust, a PEM file; `None` trusts those of Mozilla.
    pub ca_file: Option<PathBuf>,
}

impl OpenSearchOptions {
    /// The defaults, for this address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            index: "sira-objects".to_owned(),
            user: None,
            password: None,
            api_key: None,
            shards: 1,
            replicas: None,
            pool_size: 64,
            connect_timeout: Duration::from_secs(5),
            operation_timeout: Duration::from_secs(30),
            ca_file: None,
        }
    }

    /// The address without credentials, and the header that carries them.
    fn address(&self) -> Result<(Url, Option<HeaderValue>)> {
        // What the parser says may quote the address.
        let wrong = || {
            StorageError::invalid_input(
                "OpenSearch's address cannot be read; it looks like https://host:9200, \
                 with special characters of user and password percent-encoded",
            )
        };
        let mut url = Url::parse(&self.url).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(decoded);
        let password = url.password().map(decoded);
        url.set_username("").map_err(|()| wrong())?;
        url.set_password(None).map_err(|()| wrong())?;
        url.set_query(None);
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        let user = user.or_else(|| self.user.clone());
        let password = password.or_else(|| self.password.clone());
        let authorization = match (&self.api_key, user) {
            (Some(key), _) => Some(format!("ApiKey {key}")),
            (None, Some(user)) => {
                let pair = format!("{user}:{}", password.unwrap_or_default());
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            (None, None) => None,
        };
        let header = authorization.map(|text| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| StorageError::invalid_input("the API key cannot be sent"))?;
            value.set_sensitive(true);
            Ok::<_, StorageError>(value)
        });
        Ok((url, header.transpose()?))
    }

    fn check(&self) -> Result<()> {
        let first = self.index.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !first || self.index.len() > 250 || !self.index.bytes().all(rest) {
            return Err(StorageError::invalid_input(format!(
                "{:?} cannot name an index: use up to 250 of a to z, 0 to 9, - and _, and a letter \
                 first",
                self.index
            )));
        }
        Ok(())
    }
}

impl fmt::Debug for OpenSearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address and the keys may hold secrets.
        f.debug_struct("OpenSearchOptions")
            .field("index", &self.index)
            .field("user", &self.user)
            .field("shards", &self.shards)
            .field("replicas", &self.replicas)
            .field("pool_size", &self.pool_size)
            .field("connect_timeout", &self.connect_timeout)
            .field("operation_timeout", &self.operation_timeout)
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

impl OpenSearchDriver {
    /// Connects, and makes the index if it is not there.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for options that cannot be right,
    /// [`StorageError::PermissionDenied`] for refused credentials, [`StorageError::Unavailable`] when
    /// the address cannot be reached, [`StorageError::Unsupported`] when a newer version of this
    /// software has made the index.
    pub async fn connect(options: OpenSearchOptions) -> Result<Self> {
        options.check()?;
        let (base, authorization) = options.address()?;
        if options.ca_file.is_some() && base.scheme() != "https" {
            return Err(StorageError::invalid_input(
                "a ca_file goes with TLS: write https:// in OpenSearch's address",
            ));
        }
        let tls = tls::client_config(options.ca_file.as_deref())?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .connect_timeout(options.connect_timeout)
            .timeout(options.operation_timeout)
            .pool_max_idle_per_host(options.pool_size)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| error::of_request(error, Effect::Read))?;
        let client = Client::new(http, base, options.index.clone(), authorization);
        within(options.operation_timeout, Effect::Write, NAME, prepare(&client, &options)).await?;
        Ok(Self { client: Arc::new(client), timeout: options.operation_timeout })
    }
}

/// Makes the index unless it is there. Any number of processes may do so at once.
async fn prepare(client: &Client, options: &OpenSearchOptions) -> Result<()> {
    let layout = layout(client).await;
    let layout = match layout {
        Err(StorageError::NotFound(_)) => {
            create(client, options).await?;
            self::layout(client).await?
        }
        layout => layout?,
    };
    match layout {
        // A new index takes a moment before it answers.
        Some(SCHEMA) => {
            let path = format!("_cluster/health/{}?wait_for_status=yellow", options.index);
            client.root(Method::GET, &path, None, Effect::Read).await.map(|_| ())
        }
        Some(newer) if newer > SCHEMA => Err(StorageError::unsupported(format!(
            "the index {:?} has layout {newer}, this version reads up to {SCHEMA}; use a newer one",
            options.index
        ))),
        _ => Err(StorageError::invalid_input(format!(
            "the index {:?} is there and is not one of this software; name another",
            options.index
        ))),
    }
}

/// The layout that the index tells.
async fn layout(client: &Client) -> Result<Option<u64>> {
    let mapping = client.index(Method::GET, "_mapping", None, Effect::Read).await?.json()?;
    // Under the index's own name, also where an alias was asked for.
    let index = mapping.as_object().and_then(|indices| indices.values().next());
    let layout = index.and_then(|index| index.pointer("/mappings/_meta/sira_layout"));
    Ok(layout.and_then(Value::as_u64))
}

async fn create(client: &Client, options: &OpenSearchOptions) -> Result<()> {
    let mut settings = json!({
        "number_of_shards": options.shards,
        // Listings refresh for themselves.
        "refresh_interval": "30s",
    });
    match options.replicas {
        Some(replicas) => settings["number_of_replicas"] = json!(replicas),
        None => settings["auto_expand_replicas"] = json!("0-1"),
    }
    let body = json!({
        // Writes demand an alias: else one to an index that somebody removed would make another,
        // without these settings.
        "aliases": { options.index.as_str(): {} },
        "settings": { "index": settings },
        "mappings": {
            "_meta": { "sira_layout": SCHEMA },
            "dynamic": false,
            "properties": {
                "k": { "type": "keyword" },
                "v": { "type": "long", "index": false },
                "x": { "type": "long" },
                "s": { "type": "long", "index": false },
            },
        },
    });
    let body = Some(body.to_string().into_bytes());
    let name = format!("{}-1", options.index);
    match client.root(Method::PUT, &name, body, Effect::Write).await {
        Ok(_) => Ok(()),
        // Another process was faster.
        Err(StorageError::InvalidInput(detail))
            if detail.message.contains("resource_already_exists_exception") =>
        {
            Ok(())
        }
        Err(failed) => Err(failed),
    }
}

#[cfg(test)]
mod tests;
