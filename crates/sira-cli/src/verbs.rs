//! The verbs, one a file.

pub mod advise;
pub mod backup;
pub mod bench;
pub mod capacity;
pub mod config;
pub mod cost;
pub mod cp;
pub mod doctor;
pub mod documents;
pub mod get;
pub mod health;
pub mod local;
pub mod lock;
pub mod log;
pub mod ls;
pub mod migrate;
pub mod put;
pub mod record;
pub mod replicas;
pub mod rm;
pub mod route;
pub mod serve;
pub mod stat;
pub mod stats;
pub mod sync;
