//! Backups of what the server holds.

mod figures;
mod schedule;
mod service;
mod work;

pub use figures::Figures;
pub use schedule::Schedule;
pub use service::{BackupSettings, Backups};
pub use work::{BackupDefaults, BackupOutcome, BackupTask, BackupWork};

#[cfg(test)]
mod tests;
