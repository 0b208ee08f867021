use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::support::{check_document, config, problem, read_all, read_answer, start, start_with};

/// 64 MiB of a pattern in which every page differs.
fn large() -> Vec<u8> {
    (0..(64_u32 << 20) / 4).flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes()).collect()
}

#[tokio::test]
async fn large_values_stream_both_ways() {
    let s = start().await;
    let value = Bytes::from(large());
    let put = s.put("/v1/ns/sized", value.clone()).await;
    assert_eq!(put.status(), 201);
    let stored: Value = put.json().await.unwrap();
    assert_eq!(stored["size"], 64 << 20);

    let parts: Vec<_> =
        (0..64).map(|n| Ok::<_, std::io::Error>(value.slice(n << 20..(n + 1) << 20))).collect();
    let chunked = reqwest::Body::wrap_stream(Parts(parts.into_iter()));
    assert_eq!(s.put("/v1/ns/chunked", chunked).await.status(), 201);
    for path in ["/v1/ns/sized", "/v1/ns/chunked"] {
        let get = s.get(path).await;
        assert_eq!(get.headers()["content-length"], (64 << 20).to_string());
        assert_eq!(get.bytes().await.unwrap(), value, "{path}");
    }
}

#[tokio::test]
async fn the_answer_names_the_size_of_what_is_gone_already() {
    let s = start().await;
    let value = large();
    let put = s.request(Method::PUT, "/v1/ns/k").header("sira-ttl", "1ms").body(value);
    let stored: Value = put.send().await.unwrap().json().await.unwrap();
    assert_eq!(stored["size"], 64 << 20, "{stored}");
}

struct Parts<I>(I);

impl<I: Iterator + Unpin> futures_core::Stream for Parts<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_on_the_same_port() {
    let s = start().await;
    let client = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let value = large();
    let put = client.put(s.url("/v1/ns/k")).body(value.clone()).send().await.unwrap();
    assert_eq!(put.version(), reqwest::Version::HTTP_2);
    assert_eq!(put.status(), 201);
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let request = client.get(s.url("/v1/ns/k")).header("range", "bytes=1000000-3000000");
            tokio::spawn(async move { request.send().await.unwrap().bytes().await.unwrap() })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap(), value[1_000_000..=3_000_000]);
    }
    let get = client.get(s.url("/v1/ns/k")).send().await.unwrap();
    assert_eq!(get.bytes().await.unwrap(), value);
    let absent = client.get(s.url("/v1/ns/none")).send().await.unwrap();
    problem(absent, 404, "not_found").await;
    assert_eq!(s.get("/v1/ns/k").await.version(), reqwest::Version::HTTP_11);
}

#[tokio::test]
async fn a_body_that_ends_early_stores_nothing() {
    let s = start().await;
    for (announced, sent) in [(100, 10), (3 << 20, 2 << 20)] {
        let mut stream = s.connect().await;
        let head = format!(
            "PUT /v1/ns/cut HTTP/1.1\r\nhost: localhost\r\ncontent-length: {announced}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let mut stream = s.connect().await;
    let chunked = b"PUT /v1/ns/cut HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(chunked).await.unwrap();
    stream.shutdown().await.unwrap();
    read_all(&mut stream).await;
    let get = s.get("/v1/ns/cut").await;
    assert_eq!(get.status(), 404);
}

#[tokio::test]
async fn a_client_that_stops_sending_is_cut_off() {
    let mut config = config();
    config.http.stall_timeout = Duration::from_millis(100);
    let s = start_with(config).await;
    for sent in [10, 2 << 20] {
        let mut stream = s.connect().await;
        let head = "PUT /v1/ns/slow HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; sent]).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        check_document(&serde_json::from_str(body).unwrap(), 408, "request_timeout");
    }
    assert_eq!(s.get("/v1/ns/slow").await.status(), 404);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut config = config();
    config.http.stall_timeout = Duration::from_millis(100);
    let s = start_with(config).await;
    s.put("/v1/ns/k", large()).await;
    let mut stream = s.connect().await;
    stream.write_all(b"GET /v1/ns/k HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let open = || async {
        let metrics = s.get("/metrics").await.text().await.unwrap();
        let line = metrics.lines().find(|line| line.starts_with("sira_http_requests_under_way "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    // The answer's head is out at once; the connection goes when nobody takes the body.
    assert_eq!(open().await, "1");
    loop {
        let metrics = s.get("/metrics").await.text().await.unwrap();
        if metrics.contains("\nsira_http_connections 1\n") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_before_they_are_read() {
    let s = start().await;
    let mut stream = s.connect().await;
    let head = format!(
        "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        sira_store::limits::STREAM_VALUE_BYTES_MAX + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    check_document(&serde_json::from_str(body).unwrap(), 413, "too_large");
    // Without `Expect`, the answer arrives although the client goes on sending for a while.
    let refused = s
        .request(Method::POST, "/v1/ns/_batch")
        .header("content-type", "application/json")
        .body(vec![b' '; (64 << 20) + 1])
        .send()
        .await;
    if let Ok(refused) = refused {
        problem(refused, 413, "too_large").await;
    }
    let refused = s
        .request(Method::PUT, "/v1/ns/k")
        .header("sira-ttl", "soon")
        .body(vec![b' '; 4 << 20])
        .send()
        .await
        .unwrap();
    problem(refused, 400, "invalid_input").await;
}

#[tokio::test]
async fn expecting_clients_are_told_to_go_on() {
    let s = start().await;
    let mut stream = s.connect().await;
    let head = "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let go_on = read_answer(&mut stream).await;
    assert_eq!(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 201 "));
    assert_eq!(s.get("/v1/ns/k").await.text().await.unwrap(), "hello");
    // A condition that does not hold is told before the body is sent.
    let head = "PUT /v1/ns/k HTTP/1.1\r\nhost: localhost\r\nif-none-match: *\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_answer(&mut stream).await.starts_with("HTTP/1.1 412 "));
}

#[tokio::test]
async fn uploads_share_a_budget_of_memory() {
    let mut config = config();
    config.http.upload_bytes_max = 7 << 20;
    let s = start_with(config).await;
    let value = vec![b'x'; 6 << 20];
    let puts: Vec<_> = (0..6)
        .map(|n| {
            let request = s.request(Method::PUT, &format!("/v1/ns/{n}")).body(value.clone());
            tokio::spawn(async move { request.send().await.unwrap().status() })
        })
        .collect();
    for put in puts {
        assert_eq!(put.await.unwrap(), 201);
    }
    let parts: Vec<_> =
        (0..12).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 1 << 20]))).collect();
    let chunked = s.put("/v1/ns/big", reqwest::Body::wrap_stream(Parts(parts.into_iter()))).await;
    let document = problem(chunked, 503, "unavailable").await;
    assert_eq!(document["retryable"], true);
    assert_eq!(s.get("/v1/ns/big").await.status(), 404);
    assert_eq!(s.put("/v1/ns/after", value).await.status(), 201);
}
