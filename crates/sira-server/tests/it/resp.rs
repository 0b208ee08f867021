//! The RESP door, from the outside.

mod away;
mod equality;
mod server;
mod wire;
