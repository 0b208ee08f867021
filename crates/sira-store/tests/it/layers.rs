//! Layers over engines: the conformance suite through each, and what they do when an engine fails.

mod conforms;
mod faulty;
mod resolution;
mod retries;
