//! Removals that look before they repeat.

use std::sync::atomic::Ordering;

use super::attempts::Attempts;
use super::{RetryLayer, helps};
use crate::error::{Result, Retry, StorageError};
use crate::options::Condition;
use crate::version::Version;

impl RetryLayer {
    pub(super) async fn erase(&self, key: &str, condition: Condition) -> Result<bool> {
        let mut attempts = Attempts::begin(&self.retries);
        // Objects of this version and later ones may have been written after the call.
        let begun = Version::from_u64(self.retries.env.now_ms() << 16);
        let mut narrowed = condition;
        let mut pending = false;
        loop {
            let error = match self.inner.remove(key, narrowed).await {
                Ok(removed) => return Ok(removed || (pending && condition == Condition::Always)),
                Err(error) => error,
            };
            let ambiguous = error.retry() == Retry::Ambiguous;
            pending |= ambiguous;
            let refused =
                matches!(error, StorageError::PreconditionFailed(_) | StorageError::Conflict(_));
            if ambiguous || (pending && refused) {
                match self.resolve_removal(key, condition, begun, &mut attempts).await {
                    Removal::Answer(answer) => return answer,
                    Removal::Again(version) => {
                        if self.inner.capabilities().conditional {
                            narrowed = Condition::IfMatch(version);
                        }
                    }
                    Removal::Unknown => return Err(self.retries.unknown(error)),
                }
            } else if !helps(&error) {
                return Err(if pending { self.retries.unknown(error) } else { error });
            }
            if !attempts.again().await {
                return Err(if pending { self.retries.unknown(error) } else { error });
            }
        }
    }

    /// Reads what the key holds, and tells what became of the removal.
    async fn resolve_removal(
        &self,
        key: &str,
        condition: Condition,
        begun: Version,
        attempts: &mut Attempts<'_>,
    ) -> Removal {
        let Ok(head) = self.look(key, attempts).await else { return Removal::Unknown };
        let Some(held) = head.map(|head| head.version) else {
            if condition != Condition::Always {
                return Removal::Unknown;
            }
            self.retries.found.fetch_add(1, Ordering::Relaxed);
            return Removal::Answer(Ok(true));
        };
        // The version that a removal names cannot come back, whenever it was written.
        if condition == Condition::IfMatch(held) {
            return Removal::Again(held);
        }
        if held >= begun {
            return Removal::Unknown;
        }
        match condition.require(Some(held)) {
            Ok(()) => Removal::Again(held),
            Err(refused) => Removal::Answer(Err(refused.with_key(key))),
        }
    }
}

/// What became of a removal without an answer.
enum Removal {
    Answer(Result<bool>),
    /// It had no effect, and this is still there.
    Again(Version),
    Unknown,
}
