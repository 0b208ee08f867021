//! The `sira` command.

fn main() {}
