//! Binary log of framed records.
//!
//! Layer 0 ([`frame`]) is pure framing: it knows bytes, no files. Layer 1 keeps frames in segments
//! on a [`disk`], commits them in groups, recovers after a crash and mirrors them.

pub mod disk;
pub mod env;
