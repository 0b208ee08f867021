//! Tells others of alerts: webhooks, and Alertmanager.
//!
//! An alert fires and is over; each change is told once to every webhook, with retries, and all that
//! fire are told to Alertmanager again and again, which forgets what it does not hear of. Nobody who
//! raises an alert waits for the network.

mod alertmanager;
mod target;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sira_store::env::Env;
use sira_store::health::HealthState;
use sira_store::layers::MetricFamilies;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

pub use target::{NotifyKind, NotifyTarget, SecretSource};

use crate::metrics::Kind;
use target::Door;

/// Changes that wait for one target; the oldest go first when there are more.
const WAITING_MAX: usize = 1000;

/// Something that fires or is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// What it is about, such as `health_capacity` or `latency_p99`.
    pub name: String,
    /// The backend.
    pub backend: String,
    /// How bad it is, or was.
    pub severity: HealthState,
    /// Whether it fires; else it is over.
    pub is_firing: bool,
    /// What was seen, with the figures.
    pub message: String,
    /// When it changed, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Where it is written what to do.
    pub run_book: String,
}

impl Alert {
    fn key(&self) -> (String, String) {
        (self.name.clone(), self.backend.clone())
    }
}

/// What came of telling one target.
#[derive(Debug, Default)]
struct Outcomes {
    sent: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Changes that wait for one target.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<Alert>>,
    arrived: Notify,
    outcomes: Outcomes,
}

impl Queue {
    fn push(&self, alert: Alert) {
        let mut waiting = self.waiting.lock();
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
            self.outcomes.dropped.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(alert);
        self.arrived.notify_one();
    }

    fn take(&self) -> Option<Alert> {
        self.waiting.lock().pop_front()
    }
}

/// Tells the targets of alerts.
#[derive(Debug, Default)]
pub struct Notifier {
    targets: watch::Sender<Vec<NotifyTarget>>,
    /// What fires now.
    firing: Mutex<BTreeMap<(String, String), Alert>>,
    /// One for each target, in their order.
    queues: Mutex<Vec<Arc<Queue>>>,
}

impl Notifier {
    /// Tells these from now on. What fires already is told to all of them.
    pub fn apply(&self, targets: Vec<NotifyTarget>) {
        if *self.targets.borrow() == targets {
            return;
        }
        let firing: Vec<Alert> = self.firing.lock().values().cloned().collect();
        let queues: Vec<Arc<Queue>> = targets.iter().map(|_| Arc::default()).collect();
        for (target, queue) in targets.iter().zip(&queues) {
            let wanted = firing.iter().filter(|alert| alert.severity >= target.severity);
            wanted.for_each(|alert| queue.push(alert.clone()));
        }
        // The queues stand before anyone serves them.
        *self.queues.lock() = queues;
        self.targets.send_replace(targets);
    }

    /// Tells that an alert fires or is over. Returns at once.
    pub fn tell(&self, alert: Alert) {
        let before = {
            let mut firing = self.firing.lock();
            match alert.is_firing {
                true => firing.insert(alert.key(), alert.clone()),
                false => firing.remove(&alert.key()),
            }
        };
        // One that became worse or better is another one for who groups by severity.
        if let Some(before) = before.filter(|before| before.severity != alert.severity) {
            let over = Alert { is_firing: false, at_ms: alert.at_ms, ..before };
            self.queue(&over);
            if !alert.is_firing {
                return;
            }
        }
        self.queue(&alert);
    }

    fn queue(&self, alert: &Alert) {
        let targets = self.targets.borrow();
        let queues = self.queues.lock();
        for (target, queue) in targets.iter().zip(&*queues) {
            if alert.severity >= target.severity {
                queue.push(alert.clone());
            }
        }
    }

    /// What fires now.
    #[must_use]
    pub fn firing(&self) -> Vec<Alert> {
        self.firing.lock().values().cloned().collect()
    }

    /// Serves the targets, without end.
    pub async fn run(self: Arc<Self>, env: Arc<dyn Env>) {
        let mut changes = self.targets.subscribe();
        loop {
            let targets = changes.borrow_and_update().clone();
            let queues = self.queues.lock().clone();
            let mut served = JoinSet::new();
            for (target, queue) in targets.into_iter().zip(queues) {
                let (notifier, env) = (Arc::clone(&self), Arc::clone(&env));
                served.spawn(async move {
                    let url = target.origin();
                    match Door::new(target, env) {
                        Ok(door) => notifier.serve(&door, &queue).await,
                        Err(error) => tracing::error!(url, %error, "nobody is notified there"),
                    }
                });
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn serve(&self, door: &Door, queue: &Queue) {
        match door.target.kind {
            NotifyKind::Webhook => webhook::serve(door, queue).await,
            NotifyKind::Alertmanager => alertmanager::serve(door, queue, &|| self.firing()).await,
        }
    }

    /// Writes what came of it.
    pub fn write(&self, out: &mut MetricFamilies) {
        let targets = self.targets.borrow();
        if targets.is_empty() {
            return;
        }
        let queues = self.queues.lock();
        let help = "Requests that told of alerts, by outcome: `sent`, `failed` (tried again or given \
                    up), and changes that were `dropped` because too many waited.";
        out.family("sira_notifications_total", Kind::Counter, help);
        for (target, queue) in targets.iter().zip(&*queues) {
            let (outcomes, origin) = (&queue.outcomes, target.origin());
            for (outcome, count) in [
                ("sent", &outcomes.sent),
                ("failed", &outcomes.failed),
                ("dropped", &outcomes.dropped),
            ] {
                let labels = [("target", target.name()), ("url", &origin), ("outcome", outcome)];
                out.sample(&labels, count.load(Ordering::Relaxed) as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests;
