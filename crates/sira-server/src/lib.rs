//! HTTP and RESP front ends of Sira.
