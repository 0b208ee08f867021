//! Load on the engine of a folder, in this process: one thread a client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use sira_log::env::{Env, SystemEnv};
use sira_store::Durability;
use sira_store::embedded::{Engine, NamespaceId, Ticket, WriteOptions};

use super::report::Run;
use super::workload::{Op, Workload, push_key};
use super::{BENCH_NAMESPACE, Driver};
use crate::config::{Config, Setting};
use crate::failure::{Failure, Outcome};
use crate::target::{Access, open_engine};
use crate::units::parse_durability;

/// Writes between two waits for durability while keys are filled.
const BULK: u64 = 1_024;

/// The engine.
#[derive(Debug)]
pub struct FolderDriver {
    engine: Arc<Engine>,
    namespace: NamespaceId,
    wait: bool,
    root: String,
}

impl FolderDriver {
    /// Opens the folder that the configuration names.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(config: &Config, durability: Option<Durability>) -> Outcome<Self> {
        let set = config.parse(Setting::Durability, parse_durability)?;
        let engine = open_engine(config, Access::Write)?;
        let namespace = engine.namespace(BENCH_NAMESPACE)?;
        let wait = durability.unwrap_or(set) == Durability::Sync;
        Ok(Self { engine, namespace, wait, root: config.text(Setting::Root).to_owned() })
    }
}

impl Driver for FolderDriver {
    fn describe(&self) -> String {
        format!("folder {}", self.root)
    }

    fn fill(&self, workload: &Workload, _: u32) -> Outcome {
        if !workload.reads() {
            return Ok(());
        }
        let mut name = Vec::new();
        let mut last = Ticket::default();
        for key in 0..workload.keys() {
            name.clear();
            push_key(&mut name, key);
            let options = WriteOptions::default();
            last = self.engine.put(self.namespace, &name, workload.value(), options)?.ticket;
            if key % BULK == BULK - 1 {
                self.engine.wait_durable(last)?;
            }
        }
        self.engine.wait_durable(last)?;
        Ok(())
    }

    fn run(
        &self,
        workload: &Workload,
        clients: u32,
        duration: Duration,
        number: u64,
    ) -> Outcome<Run> {
        let shared = Arc::new((workload.clone(), Mutex::new(Vec::new())));
        let mut threads = Vec::with_capacity(clients as usize);
        for client in 0..clients {
            let (engine, shared) = (Arc::clone(&self.engine), Arc::clone(&shared));
            let (namespace, wait) = (self.namespace, self.wait);
            let task = move || {
                let workload = &shared.0;
                let worker = Client { engine: &engine, namespace, wait, workload };
                let result = worker.work(client, number, duration);
                shared.1.lock().push(result);
            };
            let thread = SystemEnv
                .spawn(&format!("sira-bench-{client}"), Box::new(task))
                .map_err(|error| Failure::io("cannot start a thread", &error))?;
            threads.push(thread);
        }
        for thread in threads {
            thread.join().map_err(|_| Failure::other("a client ended unexpectedly"))?;
        }
        let mut all = Run::default();
        for run in std::mem::take(&mut *shared.1.lock()) {
            let run: Run = run?;
            all.elapsed = all.elapsed.max(run.elapsed);
            all.merge(&run);
        }
        Ok(all)
    }

    fn clean(&self, _: &Workload, _: u32) -> Outcome {
        self.engine.drop_namespace(BENCH_NAMESPACE)?;
        self.engine.close()?;
        Ok(())
    }
}

struct Client<'a> {
    engine: &'a Engine,
    namespace: NamespaceId,
    wait: bool,
    workload: &'a Workload,
}

impl Client<'_> {
    fn work(&self, client: u32, number: u64, duration: Duration) -> Outcome<Run> {
        let mut random = self.workload.random(client, number);
        let mut run = Run::default();
        let mut batch = Vec::with_capacity(self.workload.pipeline());
        let mut name = Vec::new();
        let start = SystemEnv.monotonic();
        while run.elapsed < duration {
            batch.clear();
            batch.extend((0..self.workload.pipeline()).map(|_| self.workload.next(&mut random)));
            let begun = SystemEnv.monotonic();
            let mut last = None;
            for (op, key) in &batch {
                name.clear();
                push_key(&mut name, *key);
                let found = self.apply(*op, &name, &mut last)?;
                run.misses += u64::from(*op == Op::Get && !found);
                if *op == Op::Get || !self.wait {
                    run.add(*op, SystemEnv.monotonic().saturating_sub(begun));
                }
            }
            if self.wait {
                // Deletes of keys that are not there leave nothing to wait for.
                if let Some(ticket) = last {
                    self.engine.wait_durable(ticket)?;
                }
                let latency = SystemEnv.monotonic().saturating_sub(begun);
                for (op, _) in batch.iter().filter(|(op, _)| *op != Op::Get) {
                    run.add(*op, latency);
                }
            }
            run.elapsed = SystemEnv.monotonic().saturating_sub(start);
        }
        Ok(run)
    }

    /// Does one operation; says whether the key was there.
    fn apply(&self, op: Op, name: &[u8], last: &mut Option<Ticket>) -> Outcome<bool> {
        match op {
            // The value is copied out, as a caller who keeps it would.
            Op::Get => Ok(self
                .engine
                .read(self.namespace, name, |object| {
                    std::hint::black_box(Bytes::copy_from_slice(object.value)).len()
                })?
                .is_some()),
            Op::Put => {
                let options = WriteOptions::default();
                let value = self.workload.value();
                *last = Some(self.engine.put(self.namespace, name, value, options)?.ticket);
                Ok(true)
            }
            Op::Delete => {
                let mut transaction = self.engine.begin(&[(self.namespace, name)]);
                let there = transaction.delete(self.namespace, name)?;
                if there {
                    *last = Some(transaction.commit()?.ticket);
                }
                Ok(there)
            }
        }
    }
}
