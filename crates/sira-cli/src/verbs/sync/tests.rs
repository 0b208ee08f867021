use serde_json::json;

use super::{Place, Progress, line};

#[test]
fn places_are_read() {
    for (text, backend, namespace) in [
        ("embedded", Some("embedded"), "default"),
        ("west:tenant", Some("west"), "tenant"),
        (":tenant", None, "tenant"),
    ] {
        let place = Place::parse(text, "default");
        assert_eq!((place.backend, place.namespace), (backend, namespace), "{text}");
    }
}

#[test]
fn the_line_tells_how_far_it_is() {
    let one_way = json!({
        "mode": "one_way", "elapsed_s": 2.0, "objects_per_s": 50.0, "bytes_per_s": 2048.0,
        "report": { "scanned": 100, "copied_bytes": 4096 },
    });
    let one_way = Progress(one_way);
    assert_eq!(
        line(&one_way, Some(150)),
        "100 of 150 keys, 4.00 KiB copied, 2.00 KiB/s, 1.00 s left"
    );
    assert_eq!(line(&one_way, None), "100 keys, 4.00 KiB copied, 2.00 KiB/s");
    let follow = json!({
        "mode": "follow", "copied": 7, "copied_bytes": 2048, "removed": 1, "lag_ms": 1500,
        "failure": "out of\nreach",
    });
    assert_eq!(
        line(&Progress(follow), None),
        "7 copied (2.00 KiB), 1 removed, 1.50 s behind, waits: out of\\nreach"
    );
}
