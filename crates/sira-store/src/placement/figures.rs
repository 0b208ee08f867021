//! What came of copies, counted.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::layers::MetricFamilies;
use crate::layers::metrics::MetricKind;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        /// What came of copies since the start, of every namespace.
        #[derive(Debug, Default)]
        pub struct CopyFigures {
            $($name: AtomicU64,)*
        }

        /// The figures of copies at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
        pub struct CopyCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl CopyFigures {
            /// The figures of now.
            #[must_use]
            pub fn counts(&self) -> CopyCounts {
                CopyCounts { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            $(pub(crate) fn $name(&self) {
                self.$name.fetch_add(1, Ordering::Relaxed);
            })*
        }
    };
}

counters! {
    /// Copies written or removed with their object.
    mirrored;
    /// Copies that a write or a removal left behind.
    fell_behind;
    /// Objects whose copies were made level later.
    mended;
    /// Attempts at that which failed.
    mend_failed;
    /// Reads that a copy answered, since the object's backend did not.
    served;
    /// Reads that no copy could answer when the object's backend did not.
    not_served;
    /// Reads that a replica answered which may be behind.
    served_stale;
    /// Writes after which an object lay on another replica, since its own did not take them.
    failed_over;
    /// Objects that lie on their first replica again.
    returned;
    /// Reads whose shadow gave the same.
    shadow_equal;
    /// Reads whose shadow gave something else.
    shadow_differs;
    /// Reads whose shadow gave nothing.
    shadow_missing;
    /// Operations that failed on the shadow.
    shadow_failed;
    /// Writes and removals that the shadow repeated.
    shadow_written;
    /// Operations that the shadow did not repeat, since it was too far behind.
    shadow_dropped;
}

impl CopyFigures {
    /// Writes the figures as metric families.
    pub fn write(&self, out: &mut MetricFamilies) {
        let counts = self.counts();
        let mut family = |name: &str, help: &str, samples: &[(&str, u64)]| {
            out.family(name, MetricKind::Counter, help);
            for (event, count) in samples {
                out.sample(&[("event", event)], *count as f64);
            }
        };
        family(
            "sira_mirror_events_total",
            "Copies on mirrors and replicas: written with their object, left behind, made level later; \
             reads that they answered or could not when the object's backend did not; objects that \
             went to another replica, and came back.",
            &[
                ("mirrored", counts.mirrored),
                ("fell_behind", counts.fell_behind),
                ("mended", counts.mended),
                ("mend_failed", counts.mend_failed),
                ("served", counts.served),
                ("not_served", counts.not_served),
                ("served_stale", counts.served_stale),
                ("failed_over", counts.failed_over),
                ("returned", counts.returned),
            ],
        );
        family(
            "sira_shadow_events_total",
            "Operations repeated on shadows: reads by what their answer was beside that of the \
             object's backend, writes, and what failed or was dropped.",
            &[
                ("equal", counts.shadow_equal),
                ("differs", counts.shadow_differs),
                ("missing", counts.shadow_missing),
                ("failed", counts.shadow_failed),
                ("written", counts.shadow_written),
                ("dropped", counts.shadow_dropped),
            ],
        );
    }
}
