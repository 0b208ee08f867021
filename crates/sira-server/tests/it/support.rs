//! A server on free ports, its clients, and what every problem document must have.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use sira_server::{Server, ServerConfig, Storage};
use sira_store::embedded::{Engine, EngineOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Running {
    pub server: Server,
    pub storage: Storage,
    pub client: Client,
    _folder: tempfile::TempDir,
}

/// The configuration of a test: any free port.
pub fn config() -> ServerConfig {
    ServerConfig {
        http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        resp_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..ServerConfig::default()
    }
}

pub async fn start() -> Running {
    start_with(config()).await
}

pub async fn start_with(config: ServerConfig) -> Running {
    start_in(tempfile::tempdir().unwrap(), config).await
}

async fn start_in(folder: tempfile::TempDir, config: ServerConfig) -> Running {
    let engine = Engine::open(folder.path(), EngineOptions::default()).unwrap();
    let storage = Storage::new(engine).unwrap();
    let server = Server::start(storage.clone(), config).await.unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    Running { server, storage, client, _folder: folder }
}

impl Running {
    /// Stops the server and starts another one on the same data.
    pub async fn restart(self) -> Self {
        let Self { server, storage, _folder, .. } = self;
        server.shutdown(Duration::from_secs(10)).await.unwrap();
        drop(storage);
        start_in(_folder, config()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http_addr())
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::PUT, path).body(body).send().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.unwrap()
    }

    pub async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    /// Sends bytes over a fresh connection, ends its half of it, and reads until the server ends.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        read_all(&mut stream).await
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.http_addr()).await.unwrap()
    }
}

/// Reads until the server ends the connection; fails if it does not within a minute.
pub async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut part = [0_u8; 4096];
    let read = async {
        // A reset counts as an end.
        while let Ok(count @ 1..) = stream.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
pub async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .map_or(0, |length| length.parse::<usize>().unwrap());
                if body.len() >= length {
                    return text;
                }
            }
            let mut part = [0_u8; 4096];
            let count = stream.read(&mut part).await.unwrap();
            assert!(count > 0, "ended after {text}");
            answer.extend_from_slice(&part[..count]);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("an answer comes")
}

/// Checks that an answer is a whole problem document, and returns it.
pub async fn problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    let document: Value = response.json().await.unwrap();
    check_document(&document, status, code);
    assert_eq!(document["request_id"], id);
    document
}

pub fn check_document(document: &Value, status: u16, code: &str) {
    assert_eq!(document["code"], code, "{document}");
    assert_eq!(document["status"], status, "{document}");
    assert_eq!(document["type"], format!("urn:sira:problem:{code}"));
    assert!(document["title"].as_str().is_some_and(|text| !text.is_empty()), "{document}");
    assert!(document["detail"].as_str().is_some_and(|text| text.len() > 5), "{document}");
    assert!(document["retryable"].is_boolean(), "{document}");
    assert!(document["request_id"].is_string(), "{document}");
}

pub fn etag(response: &Response) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}
