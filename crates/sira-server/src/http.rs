//! The HTTP front end.
//!
//! Keys that begin with `_` are keys like all others: only `POST` on `/v1/{namespace}/_batch` is
//! special, and objects are never written with `POST`. Names of namespaces never begin with `_`, so
//! that `/v1/_tx` is none.

pub mod app;
pub mod backups;
pub mod batch;
pub mod body;
pub mod capacity;
pub mod conditions;
pub mod connection;
pub mod data;
pub mod health;
pub mod io;
pub mod json;
pub mod lifecycle;
pub mod listener;
pub mod locks;
pub mod migrations;
pub mod namespaces;
pub mod object;
pub mod observe;
pub mod openapi;
pub mod path;
pub mod query;
pub mod range;
pub mod replicas;
pub mod route;
pub mod routes;
pub mod service;
pub mod syncs;
pub mod transaction;
pub mod ttl;
pub mod versions;
pub mod write;
