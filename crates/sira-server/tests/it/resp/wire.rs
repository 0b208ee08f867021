//! A client that speaks bytes, the door under test, and a real Redis beside it.

#![allow(clippy::expect_used, clippy::panic, reason = "these are helpers of tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use sira_log::disk::OsDisk;
use sira_server::Storage;
use sira_server::resp::{RespConfig, RespServer};
use sira_store::client::{NamespacePolicy, StoragePlan};
use sira_store::embedded::{Engine, EngineOptions};
use sira_store::env::{Env, SimEnv, SystemEnv};
use sira_store::placement::Catalog;
use sira_store::{Durability, EmbeddedBackend, MemoryBackend};

/// A door over an engine in a folder of its own.
pub struct Door {
    pub server: RespServer,
    pub storage: Storage,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
}

impl Door {
    pub fn open(change: impl FnOnce(&mut RespConfig)) -> Self {
        Self::open_in(Arc::new(SystemEnv), EngineOptions::default(), change)
    }

    /// A door whose time passes as `env` says, over an engine that collects nothing by itself.
    pub fn open_at(env: &Arc<SimEnv>) -> Self {
        let options = EngineOptions { background: false, ..EngineOptions::default() };
        Self::open_in(Arc::clone(env) as _, options, |_| {})
    }

    fn open_in(
        env: Arc<dyn Env>,
        options: EngineOptions,
        change: impl FnOnce(&mut RespConfig),
    ) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let engine = Engine::open_on(Arc::new(OsDisk), env, folder.path(), options);
        let engine = engine.expect("engine");
        let mut config = RespConfig {
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            durability: Durability::None,
            ..RespConfig::default()
        };
        change(&mut config);
        let storage = Storage::new(engine).expect("storage");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime");
        let handle = runtime.handle().clone();
        let server = RespServer::start(&storage, handle, config).expect("server");
        Self { server, storage, runtime, _folder: folder }
    }

    /// Gives databases a policy that keeps them in memory; `direct`, or with a catalog.
    pub fn send_away(&self, databases: std::ops::Range<usize>, direct: bool) {
        let mut plan = StoragePlan::default();
        plan.backends.insert("memory".to_owned(), Arc::new(MemoryBackend::new(256 << 20)));
        let catalog = EmbeddedBackend::new(Arc::clone(&self.storage.engine));
        plan.catalog = Some(Catalog::new(Arc::new(catalog)).expect("catalog"));
        for database in databases {
            let policy = NamespacePolicy { direct, ..NamespacePolicy::on("memory") };
            plan.namespaces.insert(format!("db{database}"), policy);
        }
        self.storage.apply(plan).expect("a plan");
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn client(&self) -> Client {
        Client::connect(self.server.local_addr())
    }
}

/// A Redis on a free port, without persistence.
pub struct Redis {
    child: Child,
    pub addr: SocketAddr,
}

impl Redis {
    pub fn start() -> Self {
        let port = {
            let probe = TcpListener::bind(("127.0.0.1", 0)).expect("free port");
            probe.local_addr().expect("address").port()
        };
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--appendonly", "no"])
            .args(["--bind", "127.0.0.1", "--dir", "/tmp"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is missing: apt-get install -y redis-server");
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        let mut redis = Self { child, addr };
        while TcpStream::connect(addr).is_err() {
            let ended = redis.child.try_wait().expect("redis-server's state");
            assert!(ended.is_none(), "redis-server ended: {ended:?}");
            std::thread::yield_now();
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of a line: blanks divide, `"..."` keeps them, `\xNN` is a byte.
pub fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = line.as_bytes().iter().copied().peekable();
    loop {
        while rest.next_if_eq(&b' ').is_some() {}
        let quoted = rest.next_if_eq(&b'"').is_some();
        if !quoted && rest.peek().is_none() {
            return words;
        }
        let mut word = Vec::new();
        while let Some(byte) = rest.next() {
            match byte {
                b'"' if quoted => break,
                b' ' if !quoted => break,
                b'\\' if rest.next_if_eq(&b'x').is_some() => {
                    let digits: Vec<u8> = rest.by_ref().take(2).collect();
                    let text = std::str::from_utf8(&digits).expect("digits");
                    word.push(u8::from_str_radix(text, 16).expect("hexadecimal"));
                }
                byte => word.push(byte),
            }
        }
        words.push(word);
    }
}

/// A request as an array of bulk strings.
pub fn request(args: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    pending: Vec<u8>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("connection");
        stream.set_nodelay(true).expect("option");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("option");
        Self { stream, pending: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The raw reply to a line.
    pub fn run(&mut self, line: &str) -> Vec<u8> {
        self.send(&request(&words(line)));
        self.reply()
    }

    /// As [`Client::run`], as text.
    pub fn text(&mut self, line: &str) -> String {
        String::from_utf8_lossy(&self.run(line)).into_owned()
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                self.pending.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}; so far {:?}", String::from_utf8_lossy(&self.pending)),
        }
    }

    /// The next whole reply, raw.
    pub fn reply(&mut self) -> Vec<u8> {
        loop {
            if let Some(len) = reply_len(&self.pending) {
                return self.pending.drain(..len).collect();
            }
            assert!(self.fill(), "closed after {:?}", String::from_utf8_lossy(&self.pending));
        }
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.pending)
    }
}

/// Length of the reply that begins the bytes, if it is whole.
fn reply_len(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).expect("number").parse::<i64>();
    let items = match bytes[0] {
        b'$' | b'=' => {
            let len = number().expect("length");
            let total = if len < 0 { end } else { end + len as usize + 2 };
            return (bytes.len() >= total).then_some(total);
        }
        b'*' | b'~' | b'>' => number().expect("items").max(0),
        b'%' => number().expect("pairs") * 2,
        b'|' => number().expect("pairs") * 2 + 1,
        _ => return Some(end),
    };
    let mut at = end;
    for _ in 0..items {
        at += reply_len(&bytes[at..])?;
    }
    Some(at)
}
