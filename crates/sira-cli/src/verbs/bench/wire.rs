//! Load against a server: many connections on few threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sira_log::env::{Env, SystemEnv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::Driver;
use super::report::Run;
use super::workload::{Op, Workload};
use crate::failure::{Exit, Failure, Outcome};

/// Bytes read from a connection at a time.
const READ_BYTES: usize = 64 * 1024;
/// Operations in flight while keys are filled and removed.
const BULK_PIPELINE: usize = 64;
/// Bytes of requests that a client sends before it reads the answers. Beyond what both sides can
/// hold, a server that answers before it reads on and a client that sends before it reads would
/// wait for each other.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// The key holds nothing.
    Missing,
}

/// How operations are written and answers read.
pub trait Protocol: fmt::Debug + Send + Sync + 'static {
    /// What is measured, for people.
    fn name(&self) -> String;
    /// What a new connection sends first, and how many answers that has.
    fn greeting(&self) -> (Vec<u8>, usize);
    /// Writes an operation.
    fn encode(&self, out: &mut Vec<u8>, op: Op, key: u64, value: &[u8]);
    /// Reads one answer: how many bytes it takes, and what it says. `None` when it is not whole.
    ///
    /// # Errors
    /// The server's error, or that it is none of this protocol.
    fn decode(&self, bytes: &[u8]) -> Outcome<Option<(usize, Answer)>>;
}

/// A server, over one protocol.
#[derive(Debug)]
pub struct WireDriver<P> {
    address: Arc<str>,
    protocol: Arc<P>,
    runtime: Runtime,
}

impl<P: Protocol> WireDriver<P> {
    /// Connects nothing yet.
    ///
    /// # Errors
    /// When no threads can be started.
    pub fn new(address: &str, protocol: P, threads: u16) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.into())
            .thread_name("sira-bench")
            .enable_all()
            .build()
            .map_err(|error| Failure::io("cannot start threads", &error))?;
        Ok(Self { address: address.into(), protocol: Arc::new(protocol), runtime })
    }

    /// Runs `work` for every client at once and gathers what they did.
    fn each_client<F>(&self, clients: u32, work: impl Fn(u32, Client<P>) -> F) -> Outcome<Vec<Run>>
    where
        F: Future<Output = Outcome<Run>> + Send + 'static,
    {
        self.runtime.block_on(async {
            let mut connected = Vec::with_capacity(clients as usize);
            for number in 0..clients {
                let client = Client::connect(&self.address, Arc::clone(&self.protocol)).await?;
                connected.push((number, client));
            }
            let tasks: Vec<_> = connected
                .into_iter()
                .map(|(number, client)| tokio::spawn(work(number, client)))
                .collect();
            let mut runs = Vec::with_capacity(tasks.len());
            for task in tasks {
                let ended = task.await.map_err(|_| Failure::other("a client ended unexpectedly"));
                runs.push(ended??);
            }
            Ok(runs)
        })
    }

    /// Does `op` once for every key.
    fn bulk(&self, workload: &Workload, clients: u32, op: Op) -> Outcome {
        let clients = u64::from(clients).min(8).min(workload.keys());
        let workload = Arc::new(workload.clone());
        self.each_client(clients as u32, |number, mut client| {
            let workload = Arc::clone(&workload);
            async move {
                let keys: Vec<u64> =
                    (u64::from(number)..workload.keys()).step_by(clients as usize).collect();
                let step = batch_len(BULK_PIPELINE, workload.value().len());
                let mut ignored = Run::default();
                for batch in keys.chunks(step) {
                    let batch: Vec<(Op, u64)> = batch.iter().map(|key| (op, *key)).collect();
                    client.exchange(&workload, &batch, &mut ignored).await?;
                }
                Ok(ignored)
            }
        })
        .map(drop)
    }
}

fn batch_len(pipeline: usize, value_bytes: usize) -> usize {
    pipeline.min(BATCH_BYTES_MAX / (value_bytes + 256)).max(1)
}

impl<P: Protocol> Driver for WireDriver<P> {
    fn describe(&self) -> String {
        self.protocol.name()
    }

    fn fill(&self, workload: &Workload, clients: u32) -> Outcome {
        if workload.reads() { self.bulk(workload, clients, Op::Put) } else { Ok(()) }
    }

    fn run(
        &self,
        workload: &Workload,
        clients: u32,
        duration: Duration,
        number: u64,
    ) -> Outcome<Run> {
        let workload = Arc::new(workload.clone());
        let step = batch_len(workload.pipeline(), workload.value().len());
        if step < workload.pipeline() {
            return Err(Failure::usage(format!(
                "--pipeline {} of --value-size {} is too much in flight; --pipeline {step} fits",
                workload.pipeline(),
                workload.value().len()
            )));
        }
        let runs = self.each_client(clients, |client_number, mut client| {
            let workload = Arc::clone(&workload);
            async move {
                let mut random = workload.random(client_number, number);
                let mut run = Run::default();
                let mut batch = Vec::with_capacity(step);
                let start = SystemEnv.monotonic();
                while run.elapsed < duration {
                    batch.clear();
                    batch.extend((0..step).map(|_| workload.next(&mut random)));
                    client.exchange(&workload, &batch, &mut run).await?;
                    run.elapsed = SystemEnv.monotonic().saturating_sub(start);
                }
                Ok(run)
            }
        })?;
        let mut all = Run::default();
        for run in &runs {
            all.elapsed = all.elapsed.max(run.elapsed);
            all.merge(run);
        }
        Ok(all)
    }

    fn clean(&self, workload: &Workload, clients: u32) -> Outcome {
        self.bulk(workload, clients, Op::Delete)
    }
}

/// One connection.
struct Client<P> {
    stream: TcpStream,
    protocol: Arc<P>,
    sent: Vec<u8>,
    received: Vec<u8>,
    /// Bytes of `received` that are read already.
    consumed: usize,
}

impl<P: Protocol> Client<P> {
    async fn connect(address: &str, protocol: Arc<P>) -> Outcome<Self> {
        let stream = TcpStream::connect(address).await.map_err(|error| {
            Failure::io(format_args!("cannot connect to {address}"), &error)
                .exit(Exit::Retryable)
                .hint("start a server with `sira serve`, or measure a folder with --root DIR")
        })?;
        stream.set_nodelay(true).map_err(|error| broke(&error))?;
        let (greeting, answers) = protocol.greeting();
        let mut client =
            Self { stream, protocol, sent: greeting, received: Vec::new(), consumed: 0 };
        client.stream.write_all(&client.sent).await.map_err(|error| broke(&error))?;
        for _ in 0..answers {
            client.answer().await?;
        }
        Ok(client)
    }

    /// Sends the operations and reads all answers.
    async fn exchange(
        &mut self,
        workload: &Workload,
        batch: &[(Op, u64)],
        run: &mut Run,
    ) -> Outcome {
        self.sent.clear();
        for (op, key) in batch {
            self.protocol.encode(&mut self.sent, *op, *key, workload.value());
        }
        let start = SystemEnv.monotonic();
        self.stream.write_all(&self.sent).await.map_err(|error| broke(&error))?;
        for (op, _) in batch {
            let answer = self.answer().await?;
            run.add(*op, SystemEnv.monotonic().saturating_sub(start));
            run.misses += u64::from(*op == Op::Get && answer == Answer::Missing);
        }
        Ok(())
    }

    async fn answer(&mut self) -> Outcome<Answer> {
        loop {
            let unread = self.received.get(self.consumed..).unwrap_or_default();
            if let Some((len, answer)) = self.protocol.decode(unread)? {
                self.consumed += len;
                return Ok(answer);
            }
            self.received.drain(..self.consumed);
            self.consumed = 0;
            self.received.reserve(READ_BYTES);
            let read = self.stream.read_buf(&mut self.received).await;
            if read.map_err(|error| broke(&error))? == 0 {
                return Err(
                    Failure::other("the server closed the connection").exit(Exit::Retryable)
                );
            }
        }
    }
}

fn broke(error: &std::io::Error) -> Failure {
    Failure::io("the connection broke", error).exit(Exit::Retryable)
}
