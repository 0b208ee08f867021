//! Integration tests of the server, in one binary.

mod resp;
