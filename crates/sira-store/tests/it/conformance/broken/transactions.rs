//! Engines whose transactions break a rule.

use async_trait::async_trait;
use sira_store::transaction::{TransactionEngine, TransactionPart};
use sira_store::{BatchOperation, BatchResult, Condition, MemoryBackend, Result};

use super::Fault;

/// The engine of memory with a fault.
#[derive(Debug)]
pub struct BrokenEngine {
    pub inner: MemoryBackend,
    pub fault: Fault,
}

#[async_trait]
impl TransactionEngine for BrokenEngine {
    fn identity(&self) -> usize {
        self.inner.identity()
    }

    async fn commit(&self, mut parts: Vec<TransactionPart>) -> Result<Vec<Vec<BatchResult>>> {
        match self.fault {
            Fault::ListedIgnored => parts.iter_mut().for_each(|part| part.listed.clear()),
            Fault::ListedCutIgnored => {
                parts.iter_mut().flat_map(|part| &mut part.listed).for_each(|listed| {
                    listed.complete = false;
                });
            }
            Fault::ListedApart => {
                let listed = parts
                    .iter()
                    .map(|part| TransactionPart { operations: Vec::new(), ..part.clone() });
                self.inner.commit(listed.collect()).await?;
                // Long enough for every other racer to list and to be checked meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                parts.iter_mut().for_each(|part| part.listed.clear());
            }
            Fault::PartsApart => {
                let mut results = Vec::new();
                for part in parts {
                    results.extend(self.inner.commit(vec![part]).await?);
                }
                return Ok(results);
            }
            Fault::ChecksElsewhereIgnored => {
                for operation in parts.iter_mut().skip(1).flat_map(|part| &mut part.operations) {
                    if let BatchOperation::Check { condition, .. } = operation {
                        *condition = Condition::Always;
                    }
                }
            }
            _ => {}
        }
        self.inner.commit(parts).await
    }
}
