use super::*;

fn sendable(output: &Output) -> Vec<u8> {
    let mut slices = Vec::new();
    output.slices(&mut slices);
    slices.iter().flat_map(|slice| slice.iter().copied()).collect()
}

fn ticket(engine: &sira_store::embedded::Engine, key: &[u8]) -> Ticket {
    let namespace = engine.namespace("db0").unwrap();
    engine.put(namespace, key, b"v", Default::default()).unwrap().ticket
}

fn engine() -> std::sync::Arc<sira_store::embedded::Engine> {
    let folder = tempfile::tempdir().unwrap();
    sira_store::embedded::Engine::open(folder.path(), Default::default()).unwrap()
}

#[test]
fn held_replies_wait_in_order() {
    let engine = engine();
    let (first, second) = (ticket(&engine, b"a"), ticket(&engine, b"b"));
    let mut output = Output::default();
    output.int(1);
    let place = output.place();
    output.ok();
    output.hold(place, first);
    let place = output.place();
    output.int(2);
    output.hold(place, second);
    assert_eq!(sendable(&output), b":1\r\n");
    output.release_durable(first);
    assert_eq!(sendable(&output), b":1\r\n+OK\r\n");
    output.advance(6);
    assert_eq!(sendable(&output), b"K\r\n");
    output.release_durable(second);
    assert_eq!(sendable(&output), b"K\r\n:2\r\n");
    output.advance(7);
    assert_eq!(output.pending(), 0);
}

#[test]
fn a_failed_engine_fails_held_writes_only() {
    let engine = engine();
    let ticket = ticket(&engine, b"a");
    let mut output = Output::default();
    output.int(1);
    output.mark(false);
    let place = output.place();
    output.ok();
    output.mark(true);
    output.value(Bytes::from(vec![b'x'; RESP_SHARED_REPLY_BYTES_MIN]));
    output.mark(false);
    output.ok();
    output.mark(true);
    output.hold(place, ticket);
    output.advance(2);
    output.fail_held(b"MISCONF no");
    let mut expected = b"\r\n-MISCONF no\r\n$16384\r\n".to_vec();
    expected.extend(vec![b'x'; RESP_SHARED_REPLY_BYTES_MIN]);
    expected.extend_from_slice(b"\r\n-MISCONF no\r\n");
    assert_eq!(sendable(&output), expected);
    assert_eq!(output.pending(), expected.len());
}

#[test]
fn truncating_goes_back_over_shared_values() {
    let mut output = Output::default();
    output.int(1);
    let place = output.place();
    output.value(Bytes::from(vec![b'x'; RESP_SHARED_REPLY_BYTES_MIN]));
    output.int(2);
    output.truncate(place);
    output.int(3);
    assert_eq!(sendable(&output), b":1\r\n:3\r\n");
}
