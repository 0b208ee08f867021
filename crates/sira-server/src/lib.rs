//! HTTP and RESP front ends of Sira.

pub mod limits;
pub mod resp;
