use sira_store::layers::MetricFamilies;

use super::*;

#[test]
fn families_keep_their_names_types_and_units() {
    let mut families = MetricFamilies::default();
    families.family("sira_x_bytes_total", MetricKind::Counter, "help");
    families.sample(&[("backend", "hot")], 3.0);
    families.metric("sira_y", MetricKind::Gauge, "", 1.5);
    families.family("sira_z_seconds", MetricKind::Histogram, "");
    families.histogram(&[], &[0.1, 1.0], &[2, 0, 1], 5.5);
    families.family("sira_unused_total", MetricKind::Counter, "");
    let request = request(families.into_families(), Resource::default(), 7, 9);
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    let described: Vec<_> = metrics.iter().map(|m| (m.name.as_str(), m.unit.as_str())).collect();
    assert_eq!(described, [("sira_x_bytes_total", "By"), ("sira_y", "1"), ("sira_z_seconds", "s")]);

    let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!("{metrics:?}") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (7, 9));
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(3.0)));
    assert_eq!(point.attributes[0].key, "backend");

    let Some(metric::Data::Gauge(gauge)) = &metrics[1].data else { panic!("{metrics:?}") };
    assert_eq!(gauge.data_points[0].start_time_unix_nano, 0);

    let Some(metric::Data::Histogram(histogram)) = &metrics[2].data else { panic!("{metrics:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.sum), (3, Some(5.5)));
    assert_eq!(point.bucket_counts, [2, 0, 1]);
    assert_eq!(point.explicit_bounds, [0.1, 1.0]);
}
