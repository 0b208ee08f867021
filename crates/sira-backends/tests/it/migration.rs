//! Objects move between every two of five engines while they are written, and the process that
//! moves them is killed again and again.
//!
//! `SIRA_MIGRATION_OBJECTS` asks for another number of objects a pair, as in
//! `SIRA_MIGRATION_OBJECTS=100000 cargo test -p sira-backends --features all --test it --
//! --nocapture migration::embedded_to_sqlite`.

mod history;
mod level;
mod mover;
mod side;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sira_store::env::{Env, SeededRandom, SystemEnv};
use sira_store::{
    BatchOperation, BatchResult, ListOptions, ReadOptions, StorageBackend, StorageOptions, Version,
};
use tokio::task::JoinSet;

use history::{History, Told, key, value, write_until};
use side::Side;

/// Kills of the mover while writers go on.
const KILLS: usize = 3;
/// Runs of the mover in each half of a proof; many more than it takes.
const RUNS_MAX: usize = 200;
/// Operations that a test has under way.
const CONCURRENCY: usize = 64;
/// Operations of a batch.
const BATCH: usize = 200;

macro_rules! moves {
    ($($name:ident $from:literal $to:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            Proof::new($from, $to).run().await;
        }
    )*};
}

moves! {
    embedded_to_postgres "embedded" "postgres";
    embedded_to_redis "embedded" "redis";
    embedded_to_s3 "embedded" "s3";
    embedded_to_sqlite "embedded" "sqlite";
    postgres_to_embedded "postgres" "embedded";
    postgres_to_redis "postgres" "redis";
    postgres_to_s3 "postgres" "s3";
    postgres_to_sqlite "postgres" "sqlite";
    redis_to_embedded "redis" "embedded";
    redis_to_postgres "redis" "postgres";
    redis_to_s3 "redis" "s3";
    redis_to_sqlite "redis" "sqlite";
    s3_to_embedded "s3" "embedded";
    s3_to_postgres "s3" "postgres";
    s3_to_redis "s3" "redis";
    s3_to_sqlite "s3" "sqlite";
    sqlite_to_embedded "sqlite" "embedded";
    sqlite_to_postgres "sqlite" "postgres";
    sqlite_to_redis "sqlite" "redis";
    sqlite_to_s3 "sqlite" "s3";
}

fn objects() -> u64 {
    std::env::var("SIRA_MIGRATION_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(300)
}

struct Proof {
    folder: tempfile::TempDir,
    from: Side,
    to: Side,
    objects: u64,
    random: SeededRandom,
    history: Arc<History>,
}

/// How a run of the mover ended.
enum Ended {
    Killed,
    Finished(String),
}

impl Proof {
    fn new(from: &'static str, to: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            from: Side::new(from, folder.path()),
            to: Side::new(to, folder.path()),
            folder,
            objects: objects(),
            random: SeededRandom::new(SystemEnv.random_u64()),
            history: Arc::default(),
        }
    }

    async fn run(mut self) {
        self.fill().await;
        let began = SystemEnv.monotonic();
        let (mut kills, mut moved) = (0, None);
        // Only one process may have the embedded engine open: there the mover's process writes too,
        // and what it is killed with goes on after it.
        let apart = !self.from.is_of_one_process();
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        if apart {
            let source = self.from.open().await;
            for number in 0..history::WRITERS {
                let (source, stop) = (Arc::clone(&source), Arc::clone(&stop));
                let (seed, history) = (self.random.next_u64(), Arc::clone(&self.history));
                let tell = move |told: Told| history.note(told);
                writers.spawn(write_until(source, number, self.objects, seed, stop, tell));
            }
        }
        for _ in 0..RUNS_MAX {
            // After the last kill it runs to its end, which also drops the cursor.
            match self.run_mover(!apart, false, kills < KILLS) {
                Ended::Killed => kills += 1,
                Ended::Finished(report) => {
                    moved.get_or_insert((SystemEnv.monotonic() - began, report));
                    if kills >= KILLS {
                        break;
                    }
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
        let (took, report) = moved.expect("the mover never came to its end");
        // Its runs together have passed every key: what nobody has changed since is there.
        self.history.check_untouched(&sums(everything(self.to.open().await).await));
        // What changed behind the mover is brought over by the last pass, killed as well.
        let mut last = 0;
        while let Ended::Killed = self.run_mover(false, true, last == 0) {
            last += 1;
        }
        println!(
            "{} -> {}: {} objects, {} writes meanwhile, killed {kills} times and {last} in the last \
             pass; the first whole pass was over after {:.1} s, all of its runs and starts among \
             them; its last run: {report}",
            self.from.engine,
            self.to.engine,
            self.objects,
            self.history.writes(),
            took.as_secs_f64(),
        );
        assert!(kills >= KILLS, "the mover was killed {kills} times only");
        self.check().await;
        self.from.drop().await;
        self.to.drop().await;
    }

    /// Puts the objects at the source.
    async fn fill(&mut self) {
        let source = self.from.open().await;
        let mut batches = JoinSet::new();
        for first in (0..self.objects).step_by(BATCH) {
            let last = self.objects.min(first + BATCH as u64);
            let puts: Vec<(String, Bytes)> =
                (first..last).map(|number| (key(number), value(&mut self.random))).collect();
            let (source, history) = (Arc::clone(&source), Arc::clone(&self.history));
            if batches.len() >= 8 {
                batches.join_next().await.unwrap().unwrap();
            }
            batches.spawn(async move {
                let put = |(key, value): &(String, Bytes)| BatchOperation::Put {
                    key: key.clone(),
                    value: value.clone(),
                    options: StorageOptions::default(),
                };
                let results = source.batch(puts.iter().map(put).collect()).await.unwrap();
                for ((key, value), result) in puts.into_iter().zip(results) {
                    let BatchResult::Success { version: Some(version) } = result else {
                        panic!("{key}: {result:?}")
                    };
                    history.note(Told::Put { key, version, sum: sum(&value) });
                }
            });
        }
        while let Some(batch) = batches.join_next().await {
            batch.unwrap();
        }
    }

    /// Starts the mover, and kills it somewhere on its way.
    fn run_mover(&mut self, writes: bool, last: bool, kill: bool) -> Ended {
        let seed = self.random.next_u64();
        let kill_at = if kill { self.random.next_u64() % self.objects } else { u64::MAX };
        let mut mover = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "migration::mover::runs_in_a_process_of_its_own", "--nocapture"])
            .env(mover::FROM, self.from.to_string())
            .env(mover::TO, self.to.to_string())
            .env(mover::CURSOR, self.folder.path().join("cursor"))
            .env(
                mover::WRITES,
                if writes { format!("{seed}:{}", self.objects) } else { String::new() },
            )
            .env(mover::LAST, if last { "1" } else { "" })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut finished = None;
        for line in BufReader::new(mover.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.split_once(' ') {
                Some(("passed", count)) if count.parse::<u64>().unwrap() >= kill_at => {
                    mover.kill().unwrap();
                }
                Some(("finished", report)) => finished = Some(report.to_owned()),
                _ => {
                    if let Some(told) = Told::parse(&line) {
                        self.history.note(told);
                    }
                }
            }
        }
        let status = mover.wait().unwrap();
        match finished {
            Some(report) => Ended::Finished(report),
            None => {
                use std::os::unix::process::ExitStatusExt as _;
                assert_eq!(status.signal(), Some(9), "the mover failed: {status}");
                Ended::Killed
            }
        }
    }

    /// Both sides hold the same, and that is what the writers were told.
    async fn check(&self) {
        let source = everything(self.from.open().await).await;
        let target = everything(self.to.open().await).await;
        let names =
            |of: &BTreeMap<String, (Version, Bytes)>, not: &BTreeMap<_, _>| -> Vec<String> {
                of.keys().filter(|key| !not.contains_key(*key)).cloned().collect()
            };
        assert_eq!(names(&source, &target), [""; 0], "lost on the way");
        assert_eq!(names(&target, &source), [""; 0], "at the target only");
        for (key, (version, bytes)) in &source {
            let there = &target[key];
            assert_eq!(there.0, *version, "{key}");
            assert!(there.1 == *bytes, "{key} has other bytes");
        }
        self.history.check(&sums(source));
    }
}

/// Key, version and bytes of all that a store holds; its listing has each key once.
async fn everything(store: Arc<dyn StorageBackend>) -> BTreeMap<String, (Version, Bytes)> {
    let mut all = BTreeMap::new();
    let mut reads = JoinSet::new();
    let mut after: Option<String> = None;
    loop {
        let page = ListOptions { start_after: after.clone(), ..ListOptions::default() };
        let page = store.list(page).await.unwrap();
        let mut previous = after;
        for entry in page.entries {
            assert!(previous.as_ref() < Some(&entry.key), "{} is listed twice", entry.key);
            previous = Some(entry.key.clone());
            if reads.len() >= CONCURRENCY {
                keep(&mut all, reads.join_next().await.unwrap().unwrap());
            }
            let store = Arc::clone(&store);
            reads.spawn(async move {
                let object = store.read(&entry.key, ReadOptions::default()).await.unwrap();
                let object = object.unwrap_or_else(|| panic!("{} is listed only", entry.key));
                (entry.key, (object.head.version, object.value))
            });
        }
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    while let Some(read) = reads.join_next().await {
        keep(&mut all, read.unwrap());
    }
    all
}

/// Sums in the place of bytes.
fn sums(all: BTreeMap<String, (Version, Bytes)>) -> BTreeMap<String, (Version, u64)> {
    all.into_iter().map(|(key, (version, bytes))| (key, (version, sum(&bytes)))).collect()
}

fn keep<T>(all: &mut BTreeMap<String, T>, (key, what): (String, T)) {
    all.insert(key, what);
}

/// A sum of bytes, the same in every process of this program.
fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Name of a file or folder of a proof.
fn file(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}
