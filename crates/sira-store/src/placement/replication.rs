//! What is promised of a namespace that several backends hold.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StorageError};

/// Most replicas of a namespace.
pub const REPLICAS_MAX: usize = 9;

/// When a write to a replicated namespace is acknowledged, and what its reads see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Acknowledged by as many replicas as [`Acknowledge`] says; a read sees the newest that was
    /// acknowledged, or fails.
    #[default]
    Strong,
    /// Acknowledged by one replica, the first that takes it; the others follow. A read sees the
    /// newest unless that replica is away: then the newest that any other has.
    Eventual,
    /// Written as [`Consistency::Eventual`]; a read asks any replica, and sees what that has.
    Weak,
}

/// How many replicas acknowledge a strong write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Acknowledge {
    /// More than half of them.
    #[default]
    Quorum,
    /// Every one. Writes fail while one is away.
    All,
}

/// Backends that each hold every object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replication {
    /// Names of the backends; objects lie on the first, if it is there, and have copies on the
    /// others.
    pub replicas: Vec<String>,
    /// What is promised.
    pub consistency: Consistency,
    /// Of strong writes.
    pub acknowledge: Acknowledge,
}

impl Replication {
    /// Checks what can be checked without the backends.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for less than two replicas, more than [`REPLICAS_MAX`], and a
    /// backend that is named twice.
    pub fn check(&self) -> Result<()> {
        let count = self.replicas.len();
        if !(2..=REPLICAS_MAX).contains(&count) {
            return Err(StorageError::invalid_input(format!(
                "a replicated namespace names 2 to {REPLICAS_MAX} replicas, this one {count}"
            )));
        }
        let mut names = BTreeSet::new();
        match self.replicas.iter().find(|name| !names.insert(name.as_str())) {
            None => Ok(()),
            Some(twice) => {
                Err(StorageError::invalid_input("a replica is named twice").with_backend(twice))
            }
        }
    }

    /// How many replicas must hold a write before it is acknowledged.
    #[must_use]
    pub fn needed(&self) -> usize {
        match (self.consistency, self.acknowledge) {
            (Consistency::Strong, Acknowledge::All) => self.replicas.len(),
            (Consistency::Strong, Acknowledge::Quorum) => self.replicas.len() / 2 + 1,
            (Consistency::Eventual | Consistency::Weak, _) => 1,
        }
    }

    /// The replicas, this one first.
    pub(super) fn from(&self, first: &str) -> Vec<String> {
        let rest = self.replicas.iter().filter(|name| *name != first);
        std::iter::once(first.to_owned()).chain(rest.cloned()).collect()
    }

    /// The backend that objects lie on, while it is there.
    pub(super) fn preferred(&self) -> &str {
        self.replicas.first().map_or("", String::as_str)
    }
}
