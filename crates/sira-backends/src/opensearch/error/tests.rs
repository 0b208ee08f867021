use super::*;

fn seen(status: u16, body: &str, effect: Effect) -> (&'static str, Retry) {
    let status = StatusCode::from_u16(status).unwrap();
    let error = of_status(status, body.as_bytes(), effect);
    (error.code(), error.retry())
}

#[test]
fn statuses_tell_what_to_do() {
    let error = |kind: &str, reason: &str| {
        format!(r#"{{"error":{{"type":"{kind}","reason":"{reason}"}},"status":1}}"#)
    };
    let busy = error("circuit_breaking_exception", "data too large");
    assert_eq!(seen(429, &busy, Effect::Write), ("unavailable", Retry::Temporary));
    let full = "index [a] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage \
                watermark, index has read-only-allow-delete block];";
    let full = error("cluster_block_exception", full);
    assert_eq!(seen(429, &full, Effect::Write), ("out_of_space", Retry::Temporary));
    let down = error("unavailable_shards_exception", "primary shard is not active");
    assert_eq!(seen(503, &down, Effect::Write), ("unavailable", Retry::Temporary));
    assert_eq!(seen(503, "<html>", Effect::Write), ("unavailable", Retry::Ambiguous));
    assert_eq!(seen(503, "<html>", Effect::Read), ("unavailable", Retry::Temporary));
    assert_eq!(seen(504, "", Effect::Write), ("timeout", Retry::Ambiguous));
    assert_eq!(seen(401, "Unauthorized", Effect::Read), ("permission_denied", Retry::Permanent));
    let gone = error("index_not_found_exception", "no such index");
    assert_eq!(seen(404, &gone, Effect::Write), ("not_found", Retry::Permanent));
    let wrong = error("mapper_parsing_exception", "failed to parse");
    assert_eq!(seen(400, &wrong, Effect::Write), ("invalid_input", Retry::Permanent));
}
