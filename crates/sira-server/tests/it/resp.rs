//! The RESP door, from the outside.

mod equality;
mod server;
mod wire;
