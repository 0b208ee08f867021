//! A simulated disk.

/// Placeholder until the simulation lands.
#[derive(Debug)]
pub struct SimDisk;
/// Faults.
#[derive(Debug)]
pub struct SimFaults;
