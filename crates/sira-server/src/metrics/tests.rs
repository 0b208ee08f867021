use super::*;

fn text(metrics: &HttpMetrics) -> String {
    let mut out = MetricFamilies::default();
    metrics.write(&mut out);
    out.text()
}

#[test]
fn answers_are_counted_by_route_method_and_status() {
    let metrics = HttpMetrics::new(["/a", "/b"]);
    let answer = |route, method: &Method, status| {
        metrics.answered(route, method, StatusCode::from_u16(status).unwrap(), Duration::ZERO);
    };
    answer(Some("/a"), &Method::GET, 200);
    answer(Some("/a"), &Method::GET, 200);
    answer(Some("/a"), &Method::PUT, 418);
    answer(Some("/elsewhere"), &Method::GET, 404);
    answer(None, &Method::PATCH, 404);
    let text = text(&metrics);
    for line in [
        "sira_http_requests_total{route=\"/a\",method=\"GET\",status=\"200\"} 2",
        "sira_http_requests_total{route=\"/a\",method=\"PUT\",status=\"other\"} 1",
        "sira_http_requests_total{route=\"unmatched\",method=\"GET\",status=\"404\"} 1",
        "sira_http_requests_total{route=\"unmatched\",method=\"OTHER\",status=\"404\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    assert!(!text.contains("/b"), "{text}");
}

#[test]
fn histograms_are_cumulative() {
    let metrics = HttpMetrics::new(["/a"]);
    for micros in [10, 50, 51, 900, 60_000_000] {
        let elapsed = Duration::from_micros(micros);
        metrics.answered(Some("/a"), &Method::GET, StatusCode::OK, elapsed);
    }
    let text = text(&metrics);
    let bucket = |bound: &str| {
        let start = format!(
            "sira_http_request_duration_seconds_bucket{{route=\"/a\",method=\"GET\",le=\"{bound}\"}} "
        );
        text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
    };
    assert_eq!(bucket("0.00005").as_deref(), Some("2"));
    assert_eq!(bucket("0.0001").as_deref(), Some("3"));
    assert_eq!(bucket("0.001").as_deref(), Some("4"));
    assert_eq!(bucket("10").as_deref(), Some("4"));
    assert_eq!(bucket("+Inf").as_deref(), Some("5"));
    assert!(text.contains("_count{route=\"/a\",method=\"GET\"} 5"));
    assert!(text.contains("_sum{route=\"/a\",method=\"GET\"} 60.001011"));
}

#[test]
fn labels_are_escaped() {
    let mut out = MetricFamilies::default();
    out.family("m", Kind::Gauge, "a\\b\nc");
    out.sample(&[("l", "q\"\\\n")], 1.5);
    assert_eq!(out.text(), "# HELP m a\\\\b\\nc\n# TYPE m gauge\nm{l=\"q\\\"\\\\\\n\"} 1.5\n");
}

#[test]
fn open_connections_are_counted_down() {
    let metrics = Arc::new(HttpMetrics::new([]));
    let open = metrics.open_connection();
    assert!(text(&metrics).contains("\nsira_http_connections 1\n"));
    drop(open);
    assert!(text(&metrics).contains("\nsira_http_connections 0\n"));
}
