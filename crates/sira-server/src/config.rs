//! Configuration of the server.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use sira_store::Durability;

use crate::error::ServerError;
use crate::limits;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("log format {text:?} is neither `text` nor `json`")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// How the server listens and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Address of the HTTP door; port 0 takes any free one.
    pub http_addr: SocketAddr,
    /// Address of the RESP door; port 0 takes any free one.
    pub resp_addr: SocketAddr,
    /// What clients must present, as `Authorization: Bearer` or RESP `AUTH`. Without it everybody
    /// who reaches the doors is let in, and only loopback addresses may be bound.
    pub token: Option<Secret>,
    /// Most connections of each door.
    pub max_connections: usize,
    /// Durability of writes that name none.
    pub durability: Durability,
    /// How log lines are written, see [`crate::logging::init`].
    pub log_format: LogFormat,
    /// Timeouts and budgets of the HTTP door.
    pub http: HttpLimits,
}

/// Timeouts and budgets of the HTTP door. The defaults stand in [`crate::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Time from the first byte of a request head to its last.
    pub head_timeout: Duration,
    /// Time that a connection without a request stays open.
    pub idle_timeout: Duration,
    /// Longest pause within a request body, and longest wait for a client that does not read.
    pub stall_timeout: Duration,
    /// Bytes of request bodies that may be in memory at once.
    pub upload_bytes_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            head_timeout: limits::HTTP_HEAD_TIMEOUT,
            idle_timeout: limits::HTTP_IDLE_TIMEOUT,
            stall_timeout: limits::HTTP_STALL_TIMEOUT,
            upload_bytes_max: limits::HTTP_UPLOAD_BYTES_MAX,
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            http_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9095)),
            resp_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 9096)),
            token: None,
            max_connections: limits::CONNECTIONS_MAX_DEFAULT,
            durability: Durability::Sync,
            log_format: LogFormat::Text,
            http: HttpLimits::default(),
        }
    }
}

impl ServerConfig {
    /// Checks what can be checked before anything is bound.
    ///
    /// # Errors
    /// [`ServerError::Exposed`] for an address beyond loopback without a token,
    /// [`ServerError::Config`] for a token that cannot be sent and for zero connections.
    pub fn check(&self) -> Result<(), ServerError> {
        match &self.token {
            None => {
                for (door, addr) in [("HTTP", self.http_addr), ("RESP", self.resp_addr)] {
                    if !addr.ip().to_canonical().is_loopback() {
                        return Err(ServerError::Exposed { door, addr });
                    }
                }
            }
            Some(token) => {
                let text = token.expose();
                if text.is_empty() || text.len() > limits::TOKEN_BYTES_MAX {
                    return Err(ServerError::Config(format!(
                        "the token has {} bytes; give 1 to {}, such as the output of \
                         `openssl rand -hex 32`",
                        text.len(),
                        limits::TOKEN_BYTES_MAX
                    )));
                }
                if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(ServerError::Config(
                        "the token holds spaces, control characters or letters beyond ASCII, \
                         which HTTP cannot carry; use the output of `openssl rand -hex 32`"
                            .to_owned(),
                    ));
                }
            }
        }
        if self.max_connections == 0 {
            return Err(ServerError::Config(
                "max connections is 0, so nobody could connect; give at least 1".to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
