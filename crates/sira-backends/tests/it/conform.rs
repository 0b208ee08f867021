//! The conformance suite on a backend against its real server.

use std::sync::Arc;

use sira_store::StorageBackend;
use sira_store::conformance::{self, ConformanceOptions};

/// Runs the suite on the first handle; racing operations are spread over all of them.
pub async fn conforms(name: &str, handles: Vec<Arc<dyn StorageBackend>>) {
    let mut handles = handles.into_iter();
    let backend = handles.next().expect("a backend");
    let options = ConformanceOptions { peers: handles.collect(), ..ConformanceOptions::default() };
    let report = conformance::run(backend, options).await.into_result().unwrap();
    assert_eq!(report.backend, name);
    println!("{report}");
}
