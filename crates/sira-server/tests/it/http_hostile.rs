use std::time::Duration;

use reqwest::Method;
use tokio::io::AsyncWriteExt;

use crate::support::{check_document, config, problem, read_all, read_answer, start, start_with};

#[tokio::test]
async fn malformed_requests_are_refused_and_hurt_nobody() {
    let s = start().await;
    for bytes in [
        &b"\r\n\r\n\r\nnonsense\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/ns/k HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /v1/ns/k HTTP/1.1\r\n\x00: x\r\n\r\n",
        b"PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: nonsense\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        &[0xff; 5000],
    ] {
        let answer = s.raw(bytes).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{:?} -> {answer}",
            String::from_utf8_lossy(bytes)
        );
    }
    let bad_chunk =
        b"PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    let answer = s.raw(bad_chunk).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(s.get("/v1/ns/k").await.status(), 404);
    assert_eq!(s.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn heads_over_the_limits_are_refused() {
    let s = start().await;
    s.put("/v1/ns/k", "x").await;
    let large = s.request(Method::GET, "/v1/ns/k").header("x-large", "x".repeat(40_000)).send();
    problem(large.await.unwrap(), 431, "too_large").await;
    let long = s.get(&format!("/v1/ns?prefix={}", "x".repeat(20_000))).await;
    problem(long, 414, "too_large").await;
    let head =
        format!("GET /v1/ns/k HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = s.connect().await;
    let _ = stream.write_all(head.as_bytes()).await;
    let answer = read_all(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = "a: b\r\n".repeat(1000);
    let answer = s.raw(format!("GET /v1/ns/k HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn what_is_not_there_says_so() {
    let s = start().await;
    for path in ["/", "/v2", "/v1/", "/v1/ns/", "/api", "/api/data/", "/favicon.ico"] {
        problem(s.get(path).await, 404, "no_route").await;
    }
    for (method, path) in [
        (Method::POST, "/v1/ns/k"),
        (Method::PATCH, "/v1/ns/k"),
        (Method::PUT, "/v1/ns"),
        (Method::PUT, "/api/data"),
        (Method::POST, "/livez"),
        (Method::OPTIONS, "/v1/ns/k"),
    ] {
        let answer = s.request(method, path).send().await.unwrap();
        assert!(answer.headers().contains_key("allow"), "{path}");
        problem(answer, 405, "method_not_allowed").await;
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_an_idle_connection_is_not() {
    let mut config = config();
    config.http.head_timeout = Duration::from_millis(150);
    let s = start_with(config).await;
    let mut idle = s.connect().await;
    let mut used = s.connect().await;
    used.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(read_answer(&mut used).await.starts_with("HTTP/1.1 200 "));

    for begin in [&b"G"[..], b"GET /livez HTTP/1.1\r\nhost: local", b"PRI * HTTP"] {
        let mut slow = s.connect().await;
        slow.write_all(begin).await.unwrap();
        let answer = read_all(&mut slow).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let mut dripping = s.connect().await;
    let (mut read, mut write) = dripping.split();
    write.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let drip = async {
        while write.write_all(b"x-a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let end = async {
        let mut part = [0_u8; 64];
        while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut read, &mut part).await {}
    };
    tokio::time::timeout(Duration::from_secs(60), async {
        tokio::select! { () = drip => {}, () = end => {} }
    })
    .await
    .expect("a head that drips in is cut off");

    for stream in [&mut idle, &mut used] {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(read_answer(stream).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn idle_connections_end_at_last() {
    let mut config = config();
    config.http.idle_timeout = Duration::from_millis(100);
    let s = start_with(config).await;
    let mut fresh = s.connect().await;
    assert_eq!(read_all(&mut fresh).await, "");
    let mut used = s.connect().await;
    used.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(read_all(&mut used).await.starts_with("HTTP/1.1 200 "));
    let mut multiplexed = s.connect().await;
    multiplexed.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    read_all(&mut multiplexed).await;
}

#[tokio::test]
async fn half_open_and_reset_clients_leave_nothing_behind() {
    let s = start().await;
    for _ in 0..50 {
        let mut stream = s.connect().await;
        stream.write_all(b"PUT /v1/ns/gone HTTP/1.1\r\ncontent-length: 9\r\n\r\nab").await.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        drop(s.connect().await);
    }
    loop {
        let metrics = s.get("/metrics").await.text().await.unwrap();
        if metrics.contains("\nsira_http_connections 1\n") {
            assert!(metrics.contains("\nsira_http_requests_under_way 1\n"), "{metrics}");
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(s.get("/v1/ns/gone").await.status(), 404);
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let mut config = config();
    config.max_connections = 2;
    let s = start_with(config).await;
    let held = [s.connect().await, s.connect().await];
    let mut third = s.connect().await;
    let answer = read_all(&mut third).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.contains("\r\nretry-after: "));
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    check_document(&serde_json::from_str(body).unwrap(), 503, "too_many_connections");
    drop(held);
    loop {
        if s.client.get(s.url("/livez")).send().await.is_ok_and(|answer| answer.status() == 200) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn other_sites_cannot_use_a_browser_to_reach_it() {
    let s = start().await;
    let rebound = s.request(Method::GET, "/v1").header("host", "evil.example").send();
    problem(rebound.await.unwrap(), 421, "misdirected_request").await;
    let form = s.request(Method::POST, "/api/data").header("content-type", "text/plain");
    let form = form.body(r#"{"key":"k","value":"x"}"#).send().await.unwrap();
    problem(form, 415, "unsupported_media_type").await;
}
