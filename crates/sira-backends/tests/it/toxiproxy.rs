//! A way to a real server that toxiproxy makes worse.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::{env, unique};

/// A proxy of toxiproxy's before a server; it goes when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    api: String,
    name: String,
    listen: String,
}

impl Proxy {
    /// A way to `server`, which is `host:port`.
    pub fn to(server: &str) -> Self {
        let api = env("SIRA_TEST_TOXIPROXY_URL");
        let api = api.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let mut proxy = Self { api, name: unique("sira"), listen: String::new() };
        let answer = proxy.ask(
            "POST",
            "/proxies",
            &format!(
                r#"{{"name":"{}","listen":"127.0.0.1:0","upstream":"{server}","enabled":true}}"#,
                proxy.name
            ),
        );
        let listen = answer.split(r#""listen":""#).nth(1).expect("an address");
        proxy.listen = listen.split('"').next().expect("an address").to_owned();
        proxy
    }

    /// `url` with this way's beginning as its host and port.
    pub fn through(&self, url: &str) -> String {
        url.replacen(host_of(url), &self.listen, 1)
    }

    /// Makes connections worse: a share of them, from 0 to 1, of what the server sends.
    pub fn poison(&self, kind: &str, toxicity: f64, attributes: &str) {
        let path = format!("/proxies/{}/toxics", self.name);
        let toxic = format!(
            r#"{{"name":"{kind}","type":"{kind}","stream":"downstream","toxicity":{toxicity},"attributes":{{{attributes}}}}}"#
        );
        self.ask("POST", &path, &toxic);
    }

    /// Takes that away again.
    pub fn cure(&self, kind: &str) {
        self.ask("DELETE", &format!("/proxies/{}/toxics/{kind}", self.name), "");
    }

    /// Closes the way and cuts its connections, or opens it again.
    pub fn enable(&self, enabled: bool) {
        self.ask(
            "POST",
            &format!("/proxies/{}", self.name),
            &format!(r#"{{"enabled":{enabled}}}"#),
        );
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut way = TcpStream::connect(&self.api).expect("toxiproxy answers");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.api,
            body.len()
        );
        way.write_all(request.as_bytes()).expect("toxiproxy reads");
        let mut answer = String::new();
        way.read_to_string(&mut answer).expect("toxiproxy writes");
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(status.starts_with('2'), "{method} {path}: {answer}");
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ask("DELETE", &format!("/proxies/{}", self.name), "");
        }
    }
}

/// The `host:port` of a URL.
pub fn host_of(url: &str) -> &str {
    let rest = url.split("://").nth(1).unwrap_or(url);
    let rest = rest.split(['/', '?']).next().unwrap_or(rest);
    rest.rsplit('@').next().unwrap_or(rest)
}
