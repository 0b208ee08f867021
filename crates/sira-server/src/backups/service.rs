//! Backups by the clock: runs when they are due, the archive all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sira_store::backup::Archiver;
use sira_store::env::Env;
use sira_store::health::{BackupMarks, HealthState};
use sira_store::{Result, StorageError};
use tokio::sync::watch;

use super::figures::Figures;
use super::schedule::Schedule;
use crate::health::{BackupState, RUN_BOOK};
use crate::notify::{Alert, Notifier};

use super::work::{BackupDefaults, BackupOutcome, BackupTask, BackupWork};

/// How often it is looked whether something is due.
const LOOK: Duration = Duration::from_secs(1);

/// Waits after a failure, the first and the longest.
const BACKOFF: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(1800);

/// What is done by the clock.
#[derive(Debug, Clone)]
pub struct BackupSettings {
    /// What backups are made of.
    pub defaults: BackupDefaults,
    /// When a snapshot is made; never by the clock where nothing says.
    pub schedule: Option<Schedule>,
    /// When a drill is made.
    pub drill: Option<Schedule>,
    /// Time between two passes of the archive; none without.
    pub archive_interval: Option<Duration>,
}

/// What is due.
enum Due {
    /// A snapshot, after a pause.
    Run { jitter: Duration },
    /// A drill.
    Drill,
}

/// Backups of a server.
#[derive(Debug, Default)]
pub struct Backups {
    settings: watch::Sender<Option<Arc<BackupSettings>>>,
    figures: Figures,
    /// The archive has no snapshot to go on from, or has lost its place.
    wanted: AtomicBool,
    last_drill_ms: Mutex<Option<u64>>,
    /// Who is told how work ended, besides the log.
    notifier: OnceLock<Arc<Notifier>>,
}

impl BackupState for Backups {
    fn marks(&self) -> Option<BackupMarks> {
        self.settings.borrow().as_ref().map(|_| self.figures.marks())
    }
}

impl Backups {
    /// Goes by these settings from now on; without any, no backups are made.
    pub fn apply(&self, settings: Option<BackupSettings>) {
        self.settings.send_replace(settings.map(Arc::new));
    }

    /// What backups are made of.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] where the configuration has none.
    pub fn defaults(&self) -> Result<BackupDefaults> {
        let settings = self.settings.borrow();
        settings.as_ref().map(|settings| settings.defaults.clone()).ok_or_else(|| {
            StorageError::not_found(
                "the server makes no backups: say where to in [storage.backup] of its configuration",
            )
        })
    }

    /// Tells this notifier how work ended, besides the log; only the first call counts.
    pub fn notify(&self, notifier: Arc<Notifier>) {
        let _ = self.notifier.set(notifier);
    }

    /// Tells that work went well, which ends its alert, or that it did not.
    fn tell(&self, work: &str, severity: HealthState, message: String, now_ms: u64) {
        let Some(notifier) = self.notifier.get() else { return };
        notifier.tell(Alert {
            name: format!("backup_{work}"),
            backend: "backup".to_owned(),
            severity,
            is_firing: severity != HealthState::Healthy,
            message,
            at_ms: now_ms,
            run_book: format!("{RUN_BOOK}#backup"),
        });
    }

    /// What is told of them.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// Does work, counts it, and tells how it ended.
    ///
    /// # Errors
    /// The work's.
    pub async fn perform(
        &self,
        work: &'static str,
        task: &BackupTask,
        env: &dyn Env,
    ) -> Result<BackupOutcome> {
        let done = task.run().await;
        let now_ms = env.now_ms();
        self.figures.ended(work, done.as_ref().ok(), now_ms);
        let (severity, message) = match &done {
            Ok(outcome) if outcome.sound => (HealthState::Healthy, outcome.report.to_string()),
            Ok(outcome) => (HealthState::Warning, outcome.report.to_string()),
            Err(error) => (HealthState::Critical, error.to_string()),
        };
        self.tell(work, severity, message, now_ms);
        match &done {
            Ok(outcome) if outcome.sound => {
                tracing::info!(work, report = %outcome.report, "backup: done");
            }
            Ok(outcome) => {
                tracing::warn!(alert = "backup", work, report = %outcome.report, "alert: a backup is incomplete or damaged");
            }
            Err(error) => tracing::error!(alert = "backup", work, %error, "alert: a backup failed"),
        }
        done
    }

    /// Does what is due, without end.
    pub async fn run(self: Arc<Self>, env: Arc<dyn Env>) {
        let mut changes = self.settings.subscribe();
        loop {
            let settings = changes.borrow_and_update().clone();
            let work = async {
                match &settings {
                    None => std::future::pending().await,
                    Some(settings) => {
                        tokio::join!(self.by_schedule(settings, &*env), self.archive(settings));
                    }
                }
            };
            tokio::select! {
                () = work => {}
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn by_schedule(&self, settings: &BackupSettings, env: &dyn Env) {
        let mut backoff = BACKOFF;
        loop {
            let done = match self.due(settings, env).await {
                Ok(Due::Run { jitter }) => {
                    tokio::time::sleep(jitter).await;
                    let made = self.make(settings, env).await;
                    // The archive has asked for it all the while.
                    self.wanted.store(false, Ordering::Relaxed);
                    made
                }
                Ok(Due::Drill) => self.drill(settings, env).await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => backoff = BACKOFF,
                Err(error) => {
                    tracing::warn!(%error, "backups are tried again later");
                    tokio::time::sleep(backoff).await;
                    backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
                }
            }
        }
    }

    /// Waits until a snapshot or a drill is due. When the last snapshot was made is what the
    /// repository says, so one that was missed while the server was down is due at once.
    async fn due(&self, settings: &BackupSettings, env: &dyn Env) -> Result<Due> {
        loop {
            let newest = settings.defaults.repository.newest().await?;
            let last_ms = newest.as_ref().map(|snapshot| snapshot.id.begun_ms);
            if let Some(newest) = &newest {
                self.figures.found(newest.ended_ms);
            }
            let run_ms = match (&settings.schedule, last_ms) {
                (None, _) => None,
                (Some(_), None) => Some(0),
                (Some(schedule), Some(last_ms)) => schedule.after(last_ms),
            };
            let drilled_ms = *self.last_drill_ms.lock().get_or_insert(env.now_ms());
            let drill_ms = settings.drill.as_ref().and_then(|schedule| schedule.after(drilled_ms));
            let is_due = |at: Option<u64>| at.is_some_and(|at| at <= env.now_ms());
            while !(is_due(run_ms) || is_due(drill_ms)) {
                if self.wanted.load(Ordering::Relaxed) {
                    return Ok(Due::Run { jitter: Duration::ZERO });
                }
                tokio::time::sleep(LOOK).await;
            }
            if !is_due(run_ms) {
                return Ok(Due::Drill);
            }
            let now = settings.defaults.repository.newest().await?;
            if now.map(|snapshot| snapshot.id) == newest.map(|snapshot| snapshot.id) {
                let schedule = settings.schedule.as_ref().filter(|_| last_ms.is_some());
                let jitter = schedule.map(|schedule| schedule.delay(env.random_u64()));
                return Ok(Due::Run { jitter: jitter.unwrap_or_default() });
            }
            // Somebody has asked for one meanwhile.
        }
    }

    async fn drill(&self, settings: &BackupSettings, env: &dyn Env) -> Result<()> {
        *self.last_drill_ms.lock() = Some(env.now_ms());
        let drill = BackupTask::new(&BackupWork::Drill {}, &settings.defaults)?;
        self.perform("drill", &drill, env).await.map(drop)
    }

    /// Makes a snapshot, verifies a sample of it, and removes what is not to be kept.
    async fn make(&self, settings: &BackupSettings, env: &dyn Env) -> Result<()> {
        let verify = BackupWork::Verify { snapshot: None, percent: None, full: false };
        let prune = BackupWork::Prune { remove: Vec::new(), dry_run: false };
        for work in [BackupWork::Run { full: false }, verify, prune] {
            let task = BackupTask::new(&work, &settings.defaults)?;
            self.perform(work.name(), &task, env).await?;
        }
        Ok(())
    }

    async fn archive(&self, settings: &BackupSettings) {
        let Some(interval) = settings.archive_interval else {
            return std::future::pending().await;
        };
        let BackupDefaults { repository, source, namespaces, .. } = settings.defaults.clone();
        let mut archiver = Archiver::new(repository, source, namespaces);
        loop {
            match archiver.pass().await {
                Ok(Some(pass)) => self.figures.archived(pass.until_ms, pass.bytes),
                Ok(None) => self.wanted.store(true, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "the archive is tried again"),
            }
            tokio::time::sleep(interval).await;
        }
    }
}
