use sira_store::capacity::Resolution;
use sira_store::embedded::EmbeddedBackend;
use sira_store::placement::Catalog;

use super::memory::NAMESPACE;
use super::*;

#[test]
fn samples_are_taken_when_an_interval_begins() {
    let hour = Duration::from_secs(3600);
    assert_eq!(until_next(hour, 3_600_000), hour);
    assert_eq!(until_next(hour, 3_600_001), Duration::from_millis(3_599_999));
    assert_eq!(until_next(hour, 7_199_999), Duration::from_millis(1));
    assert_eq!(until_next(Duration::ZERO, 5), Duration::from_millis(1));
}

#[tokio::test]
async fn settings_are_applied_and_the_series_lie_where_nobody_sees_them() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::open(folder.path(), Default::default()).unwrap();
    let capacity = Capacity::new(Arc::clone(&engine)).unwrap();
    assert_eq!(capacity.horizon(), Duration::from_secs(30 * 86_400));
    let settings = CapacitySettings { horizon: Duration::from_secs(5), ..Default::default() };
    capacity.apply(settings, CostSettings::default());
    assert_eq!(capacity.horizon(), Duration::from_secs(5));
    // Nothing is made before something is kept.
    let collector = MetricsCollector::new();
    let client = StorageClient::new();
    let backend = Arc::new(EmbeddedBackend::new(Arc::clone(&engine)));
    client.register_backend("embedded", backend).unwrap();
    capacity.sample(&CapacitySettings::default(), &client, &collector).await;
    capacity.remember().await;
    assert!(engine.find_namespace(NAMESPACE).is_none());
    capacity.close().await;
    assert!(engine.find_namespace(NAMESPACE).is_some());
    assert!(Catalog::owns(NAMESPACE));
    // It is there again for the next one.
    let later = Capacity::new(engine).unwrap();
    later.recall_backend("embedded").await;
    let kept = later.backends.lock().get("embedded").map(|it| it.kept.series.clone()).unwrap();
    assert_eq!(kept.samples(Resolution::Fine), 1);
}
