//! Open-loop load on the RESP door: thousands of connections, requests at fixed times whether
//! earlier ones were answered or not, latency from the intended time.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use sira_benches::args::Args;
use sira_benches::data::Random;
use sira_benches::order;
use sira_benches::report::{Report, Row};
use sira_benches::servers::{Running, raise_file_limit};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 100;
const FIGURES: [&str; 6] =
    ["read p50", "read p99", "read p99.9", "write p50", "write p99", "write p99.9"];

fn main() {
    let args = Args::parse();
    raise_file_limit();
    let number =
        |name, default| args.option(name).map_or(default, |n| n.parse().expect("a number"));
    let connections = number("--connections", 10_000);
    let rate = number("--rate", 20_000);
    let seconds = number("--seconds", 15);
    let notes = [
        format!(
            "{connections} connections, {rate} requests a second for {seconds} s, half SET and half \
             GET, 100 B, {KEYS} keys, latency from the intended time, every value checked"
        ),
        "sira: `--durability none`; Redis: default settings".to_owned(),
    ];
    let mut report = Report::new("Open loop", &notes);
    let mut rows: Vec<Row> =
        FIGURES.iter().map(|name| Row::new(name, "ms", false, &["sira", "Redis"])).collect();
    for round in 0..args.rounds {
        for at in order(2, round) {
            let server =
                if at == 0 { Running::sira(&args, "none") } else { Running::redis(&args, false) };
            let mut load = Load::connect(server.port, connections);
            load.fill();
            load.run(rate, Duration::from_secs(2));
            load.latencies = Default::default();
            load.run(rate, Duration::from_secs(seconds as u64));
            rows.iter_mut().zip(load.figures()).for_each(|(row, figure)| row.add(at, figure));
        }
    }
    report.rows = rows;
    report.finish(args.json.as_deref());
}

#[derive(Clone, Copy)]
struct Asked {
    due: Instant,
    /// The key that a GET reads; `None` for a SET.
    key: Option<u64>,
}

struct Connection {
    stream: TcpStream,
    asked: VecDeque<Asked>,
    unsent: Vec<u8>,
    received: Vec<u8>,
}

struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    random: Random,
    /// Of reads and of writes, in milliseconds.
    latencies: [Vec<f64>; 2],
    open: usize,
}

impl Load {
    fn connect(port: u16, count: usize) -> Self {
        let poll = Poll::new().expect("a poll");
        let connections = (0..count).map(|n| {
            // A blocking connect waits for room in the listener's queue.
            let stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("no blocking");
            let mut stream = TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(n), Interest::READABLE)
                .expect("a registration");
            Connection { stream, asked: VecDeque::new(), unsent: Vec::new(), received: Vec::new() }
        });
        let connections = connections.collect();
        Self { poll, connections, random: Random(5), latencies: Default::default(), open: 0 }
    }

    /// Writes every key once.
    fn fill(&mut self) {
        let mut events = Events::with_capacity(1024);
        for key in 0..KEYS {
            let at = key as usize % self.connections.len();
            self.send(at, Instant::now(), key, true);
            while self.open > 1000 {
                self.receive(&mut events, Some(Duration::from_millis(100)));
            }
        }
        self.drain(&mut events);
    }

    fn run(&mut self, rate: usize, length: Duration) {
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        let total = (rate as f64 * length.as_secs_f64()) as u64;
        let mut sent = 0;
        while sent < total {
            let now = Instant::now();
            let mut due = start + Duration::from_secs(1) * sent as u32 / rate as u32;
            while sent < total && due <= now {
                let at = self.random.below(self.connections.len() as u64) as usize;
                let key = self.random.below(KEYS);
                let write = self.random.next_u64() % 2 == 0;
                self.send(at, due, key, write);
                sent += 1;
                due = start + Duration::from_secs(1) * sent as u32 / rate as u32;
            }
            self.receive(&mut events, Some(Duration::ZERO));
            if events.is_empty() {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        self.drain(&mut events);
    }

    fn send(&mut self, at: usize, due: Instant, key: u64, write: bool) {
        let connection = &mut self.connections[at];
        let name = format!("key:{key:012}");
        let request = if write {
            format!("*3\r\n$3\r\nSET\r\n$16\r\n{name}\r\n$100\r\n{}\r\n", value(key))
        } else {
            format!("*2\r\n$3\r\nGET\r\n$16\r\n{name}\r\n")
        };
        connection.unsent.extend_from_slice(request.as_bytes());
        connection.asked.push_back(Asked { due, key: (!write).then_some(key) });
        connection.flush();
        self.open += 1;
    }

    fn drain(&mut self, events: &mut Events) {
        let start = Instant::now();
        while self.open > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "{} answers are missing", self.open);
            self.connections.iter_mut().for_each(Connection::flush);
            self.receive(events, Some(Duration::from_millis(100)));
        }
    }

    fn receive(&mut self, events: &mut Events, timeout: Option<Duration>) {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("poll: {error}"),
            _ => {}
        }
        for event in &*events {
            let connection = &mut self.connections[event.token().0];
            connection.flush();
            connection.fill_buffer();
            let mut used = 0;
            while let Some((len, answer)) = answer(&connection.received[used..]) {
                let asked = connection.asked.pop_front().expect("a request for the answer");
                match (asked.key, answer) {
                    (Some(key), Answer::Value(bytes)) => {
                        assert!(bytes == value(key).as_bytes(), "key {key} has another value");
                    }
                    (None, Answer::Ok) => {}
                    _ => panic!("another answer than was asked for"),
                }
                used += len;
                self.open -= 1;
                let latency = asked.due.elapsed().as_secs_f64() * 1e3;
                self.latencies[usize::from(asked.key.is_none())].push(latency);
            }
            connection.received.drain(..used);
        }
    }

    fn figures(&mut self) -> Vec<f64> {
        let mut figures = Vec::new();
        for latencies in &mut self.latencies {
            latencies.sort_by(f64::total_cmp);
            for share in [0.5, 0.99, 0.999] {
                figures.push(latencies[((latencies.len() - 1) as f64 * share) as usize]);
            }
        }
        figures
    }
}

impl Connection {
    /// Sends what the socket takes.
    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server hung up: {error}"),
            }
        }
    }

    fn fill_buffer(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the server hung up"),
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server hung up: {error}"),
            }
        }
    }
}

/// The value of a key: its number, again and again.
fn value(key: u64) -> String {
    format!("{key:010}").repeat(VALUE_BYTES / 10)
}

enum Answer<'a> {
    Ok,
    Value(&'a [u8]),
}

/// The answer at the start of the bytes, if it is whole, and its length.
fn answer(bytes: &[u8]) -> Option<(usize, Answer<'_>)> {
    if bytes.starts_with(b"+OK\r\n") {
        return Some((5, Answer::Ok));
    }
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = std::str::from_utf8(&bytes[..end]).expect("text");
    let len = line.strip_prefix('$').and_then(|len| len.parse::<usize>().ok());
    let len = len.unwrap_or_else(|| panic!("the server answered {line}"));
    let value = bytes.get(end + 2..end + 2 + len)?;
    bytes.get(end + 4 + len - 1).map(|_| (end + 4 + len, Answer::Value(value)))
}
