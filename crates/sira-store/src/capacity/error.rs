//! Why there is no forecast.

/// Why there is no forecast.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapacityError {
    /// There are too few samples to say anything.
    #[error("too little history: {samples} samples, {needed} needed")]
    TooLittleHistory {
        /// Samples that there are.
        samples: usize,
        /// Samples that it takes.
        needed: usize,
    },
    /// A sample is no finite number.
    #[error("sample {at} is no finite number")]
    NotFinite {
        /// Which one, counted from 0.
        at: usize,
    },
    /// Nothing is asked for.
    #[error("a forecast looks at least one sample ahead")]
    NoHorizon,
}
