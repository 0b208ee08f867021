//! HTTP and RESP front ends of Sira.
//!
//! [`Server::start`] binds both doors over one [`Storage`]. HTTP lives in [`http`]; the routes are
//! described by [`openapi`].

pub mod auth;
pub mod backups;
pub mod capacity;
pub mod config;
pub mod error;
pub mod health;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod logging;
pub mod maintenance;
pub mod metrics;
pub mod monitoring;
pub mod notify;
pub mod problem;
pub mod resp;
pub mod server;
pub mod storage;
pub mod telemetry;
pub mod timestamp;

pub use config::{LogFormat, Secret, ServerConfig};
pub use error::ServerError;
pub use http::openapi::openapi;
pub use server::Server;
pub use storage::Storage;
pub use telemetry::Telemetry;
