use super::*;

#[test]
fn alerts_are_named_as_others_are() {
    assert_eq!(alertname("health_capacity"), "SiraHealthCapacity");
    assert_eq!(alertname("latency_p99"), "SiraLatencyP99");
}
