//! serve over several backends: where objects go, moving them, and a configuration that changes.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Ran, Server, http, run, run_with_input, sira};

struct Fixture {
    folder: tempfile::TempDir,
    server: Server,
}

impl Fixture {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::write(folder.path(), config);
        let server = Self::serve(folder.path());
        Self { folder, server }
    }

    fn serve(folder: &Path) -> Server {
        Server::start_with(&folder.join("root"), |command| {
            command.arg("--config").arg(folder.join("sira.toml"));
        })
    }

    fn write(folder: &Path, config: &str) {
        let files = folder.join("files");
        fs::write(folder.join("sira.toml"), config.replace("FILES", files.to_str().unwrap()))
            .unwrap();
    }

    fn sira(&self, args: &[&str]) -> Command {
        let mut command = sira();
        command.args(args).args(["--server", &self.server.http]);
        command
    }

    fn put(&self, key: &str, value: &str) {
        run_with_input(&mut self.sira(&["put", key]), value.as_bytes()).exits(0);
    }

    fn get(&self, key: &str) -> String {
        run(&mut self.sira(&["get", key])).exits(0).text()
    }

    fn explain(&self, key: &str) -> Value {
        run(&mut self.sira(&["route", "explain", key, "--json"])).exits(0).json().remove(0)
    }

    /// Waits until a key would go to this backend.
    fn await_route(&self, key: &str, backend: &str) {
        for _ in 0..600 {
            if self.explain(key)["goes_to"][0] == backend {
                return;
            }
            sleep();
        }
        panic!("{key} does not go to {backend}: {}", self.explain(key));
    }
}

fn free_port() -> String {
    let probe = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    probe.local_addr().unwrap().port().to_string()
}

/// A Redis of a test's own, which ends with it.
struct Redis(std::process::Child);

impl Redis {
    fn start(port: &str, folder: &Path, more: &[&str]) -> Self {
        let redis = Command::new("redis-server")
            .args(["--port", port, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
            .args(more)
            .current_dir(folder)
            .stdout(std::process::Stdio::null())
            .spawn();
        Self(redis.expect("redis-server is missing: apt-get install -y redis-server"))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[allow(clippy::disallowed_methods, reason = "the server is another process")]
fn sleep() {
    std::thread::sleep(Duration::from_millis(50));
}

const TWO: &str = r#"
[storage.backends.files]
type = "filesystem"
path = "FILES"
[[storage.routing.patterns]]
pattern = "cache:*"
backend = "files"
[namespaces.packed]
backends = ["files"]
compression = "zstd"
"#;

fn stored_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { stored_bytes(&entry.path()) } else { metadata.len() }
        })
        .sum()
}

#[test]
fn objects_go_where_the_configuration_says_and_the_verbs_say_so() {
    let f = Fixture::start(TWO);
    f.put("cache:1", "near");
    f.put("data:1", "here");
    f.put("sira://packed/text", &"text ".repeat(10_000));
    assert_eq!((f.get("cache:1"), f.get("data:1")), ("near".into(), "here".into()));
    assert_eq!(f.get("sira://packed/text").len(), 50_000);
    let bytes = stored_bytes(&f.folder.path().join("files"));
    assert!((4..10_000).contains(&bytes), "{bytes}");
    assert_eq!(f.explain("cache:1")["lies_on"], "files");
    assert_eq!(f.explain("data:1")["lies_on"], "embedded");
    let told = run(&mut f.sira(&["route", "explain", "cache:2"])).exits(0).text();
    assert!(told.contains("goes to   files") && told.contains("cache:*"), "{told}");

    let stats = run(&mut f.sira(&["stats", "--json"])).exits(0).json().remove(0);
    assert_eq!(stats["backends"]["files"]["status"], "healthy");
    assert!(stats["backends"]["files"]["operations"]["operations_total"].as_u64() > Some(1));
    let table = run(&mut f.sira(&["stats"])).exits(0).text();
    assert!(table.contains("files") && table.contains("embedded*"), "{table}");

    let moved = run(&mut f.sira(&["migrate", "embedded", "files", "data:*", "--json"])).exits(0);
    assert_eq!(moved.json()[0]["report"]["copied"], 1);
    assert_eq!(f.explain("data:1")["lies_on"], "files");
    assert_eq!(f.get("data:1"), "here");
    let none: Ran = run(&mut f.sira(&["migrate", "files", "nowhere"]));
    assert_ne!(none.code, 0);
}

#[test]
fn places_are_kept_level() {
    let f = Fixture::start(TWO);
    f.put("sira://db0/a", "1");
    let told = run(&mut f.sira(&["sync", "embedded", "files", "-N", "db0"])).exits(0).text();
    assert!(told.contains("done: copied 1 objects"), "{told}");
    run(&mut f.sira(&["rm", "sira://db0/a"])).exits(0);
    f.put("sira://db0/b", "1");
    let two_way = ["sync", "embedded:db0", "files:db0", "--two-way", "--json"];
    let report = |args: &[&str]| {
        let told = run(&mut f.sira(args)).exits(0).json().remove(0);
        told["progress"]["report"].clone()
    };
    // It has no memory of both yet: what only one has goes to the other.
    let first = report(&two_way);
    assert_eq!((&first["copied_to_target"], &first["copied_to_source"]), (&1.into(), &1.into()));
    run(&mut f.sira(&["rm", "sira://db0/a"])).exits(0);
    assert_eq!(report(&two_way)["removed_from_target"], 1);

    let follow = ["sync", "embedded", "files", "-N", "db0", "--follow", "--detach", "--json"];
    let begun = run(&mut f.sira(&follow)).exits(0).json().remove(0);
    assert_eq!((&begun["state"], &begun["follow"]), (&"running".into(), &true.into()));
    let again = run(&mut f.sira(&follow));
    assert!(again.code != 0 && again.stderr.contains("is running"), "{}", again.stderr);
    run(&mut f.sira(&["sync", "--end", &begun["id"].to_string()])).exits(0);
    // Where objects lie by the catalog, a backend is no place.
    let refused = run(&mut f.sira(&["sync", "embedded", "files"]));
    assert!(refused.code != 0 && refused.stderr.contains("catalog"), "{}", refused.stderr);
}

#[test]
fn a_configuration_that_changes_is_taken_and_a_wrong_one_refused_whole() {
    let f = Fixture::start(TWO);
    f.put("cache:1", "old place");
    f.put("data:1", "v");
    // By SIGHUP, at once.
    Fixture::write(f.folder.path(), &TWO.replace("cache:*", "data:*"));
    f.server.signal(Signal::HUP);
    f.await_route("data:2", "files");
    assert_eq!(f.explain("cache:2")["goes_to"][0], "embedded");
    assert_eq!((f.get("cache:1"), f.get("data:1")), ("old place".into(), "v".into()));

    // Wrong: neither the new pattern nor anything else of it counts.
    let wrong = TWO.replace("cache:*", "other:*").replace("\"zstd\"", "\"zstt\"");
    Fixture::write(f.folder.path(), &wrong);
    f.server.signal(Signal::HUP);
    // A backend that holds objects cannot go.
    Fixture::write(f.folder.path(), "[storage]\ndefault_backend = \"embedded\"\n");
    f.server.signal(Signal::HUP);
    f.put("data:3", "still");
    assert_eq!(f.explain("data:3")["lies_on"], "files");
    assert_eq!(f.get("cache:1"), "old place");

    // By itself, when the file rests.
    Fixture::write(f.folder.path(), &TWO.replace("cache:*", "later:*"));
    f.await_route("later:1", "files");
    assert_eq!(f.get("data:3"), "still");
}

/// The reply to one request, up to its first line's end.
fn resp(server: &Server, lines: &[&str]) -> Vec<String> {
    let stream = std::net::TcpStream::connect(&server.resp).unwrap();
    let mut replies = std::io::BufReader::new(stream.try_clone().unwrap());
    let mut answers = Vec::new();
    for line in lines {
        (&stream).write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        replies.read_line(&mut reply).unwrap();
        if reply.starts_with('$') && !reply.starts_with("$-1") {
            reply.clear();
            replies.read_line(&mut reply).unwrap();
        }
        answers.push(reply.trim_end().to_owned());
    }
    answers
}

#[test]
fn what_the_engine_held_alone_is_found_when_others_come_and_databases_of_resp_go_there() {
    let f = Fixture::start("");
    f.put("data:1", "first");
    assert_eq!(resp(&f.server, &["SELECT 3", "SET n 41", "SET old v"]), ["+OK"; 3]);
    let with_files = "[storage]\ndefault_backend = \"files\"\n[storage.backends.files]\n\
                      type = \"filesystem\"\npath = \"FILES\"\n";
    let db3 = "[namespaces.db3]\nbackends = [\"files\"]\n";
    Fixture::write(f.folder.path(), &format!("{with_files}{db3}"));
    f.server.signal(Signal::HUP);
    f.await_route("data:2", "files");
    assert_eq!(f.get("data:1"), "first");
    assert_eq!(f.explain("data:1")["lies_on"], "embedded");
    let answers = resp(&f.server, &["SELECT 3", "INCR n", "GET old", "SET new w", "GET new"]);
    assert_eq!(answers, ["+OK", ":42", "v", "+OK", "w"]);
    assert_eq!(f.explain("sira://db3/new")["lies_on"], "files");
    assert_eq!(f.get("sira://db3/new"), "w");
    assert_eq!(resp(&f.server, &["SELECT 4", "SET here 1"]), ["+OK"; 2]);
    assert_eq!(f.explain("sira://db4/here")["lies_on"], "embedded");

    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    // Without its section too: the catalog knows where its objects are.
    Fixture::write(folder.path(), with_files);
    let f = Fixture { server: Fixture::serve(folder.path()), folder };
    assert_eq!(resp(&f.server, &["SELECT 3", "GET new", "GET n"]), ["+OK", "w", "42"]);
    // Directly on the engine it would not be found.
    let direct =
        format!("{with_files}[namespaces.db3]\nbackends = [\"embedded\"]\ndirect = true\n");
    Fixture::write(f.folder.path(), &direct.replace("files\"\n[", "embedded\"\n["));
    f.server.signal(Signal::HUP);
    f.put("data:9", "v");
    assert_eq!(f.explain("data:9")["lies_on"], "files", "the configuration is refused");
    assert_eq!(resp(&f.server, &["SELECT 3", "GET new"]), ["+OK", "w"]);
}

#[test]
fn a_backend_that_is_down_at_the_start_is_served_from_once_it_answers() {
    let port = free_port();
    let f = Fixture::start(&format!(
        "[storage.backends.hot]\ntype = \"redis\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         [namespaces.hot]\nbackends = [\"hot\"]\n\
         [namespaces.both]\nbackends = [\"embedded\", \"hot\"]\n"
    ));
    f.put("k", "served");
    f.put("sira://both/k", "served");
    assert_eq!(f.get("sira://both/k"), "served");
    let put = || run_with_input(&mut f.sira(&["put", "sira://hot/k"]), b"v");
    let refused = put();
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("could not be opened"), "{}", refused.stderr);
    let stats = run(&mut f.sira(&["stats", "--json"])).exits(0).json().remove(0);
    assert_eq!(stats["backends"]["hot"]["status"], "critical", "{stats}");

    let _redis = Redis::start(&port, f.folder.path(), &[]);
    let answered = (0..600).any(|_| {
        sleep();
        put().code == 0
    });
    assert!(answered);
    assert_eq!(f.get("sira://hot/k"), "v");
}

/// What `sira replicas ls` tells of a namespace.
fn replicas(f: &Fixture, namespace: &str) -> Value {
    let told = run(&mut f.sira(&["replicas", "ls", "--json"])).exits(0).json().remove(0);
    told["namespaces"][namespace].clone()
}

fn repaired(f: &Fixture, more: &[&str]) -> Value {
    let args = [&["--namespace", "ledger", "replicas", "repair", "--json"], more].concat();
    run(&mut f.sira(&args)).exits(0).json().remove(0)
}

#[test]
fn a_namespace_on_three_engines_outlives_each_of_them() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let redis = Redis::start(&port, folder.path(), &[]);
    let f = Fixture::start(&format!(
        "[storage.backends.hot]\ntype = \"redis\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         [storage.backends.files]\ntype = \"filesystem\"\npath = \"FILES\"\n\
         [namespaces.ledger]\nreplicas = [\"hot\", \"files\", \"embedded\"]\n"
    ));
    let key = "sira://ledger/k";
    for n in 0..20 {
        f.put(&format!("sira://ledger/n/{n}"), "steady");
    }
    f.put(key, "1");
    assert_eq!(f.explain(key)["lies_on"], "hot");
    assert_eq!(f.explain(key)["copies_on"], serde_json::json!(["files", "embedded"]));
    assert_eq!(replicas(&f, "ledger")["consistency"], "strong");

    // The first replica dies, and with it all that it held.
    drop(redis);
    assert_eq!(f.get(key), "1");
    f.put(key, "2");
    assert_eq!(f.get(key), "2");
    assert_eq!(f.explain(key)["lies_on"], "files");
    assert_eq!(f.explain(key)["behind_on"], serde_json::json!(["hot"]));
    let listed = run(&mut f.sira(&["ls", "sira://ledger/n/"])).exits(0).text();
    assert_eq!(listed.lines().count(), 20, "{listed}");
    assert!(replicas(&f, "ledger")["behind"].as_u64().unwrap() >= 1);
    let metrics = String::from_utf8(http(&f.server, "GET", "/metrics", b"").1).unwrap();
    assert!(metrics.contains("sira_mirror_events_total{event=\"failed_over\"} 1"), "{metrics}");
    assert!(metrics.contains("sira_replica_lag_seconds{namespace=\"ledger\"}"), "{metrics}");

    // It comes back with nothing, gets what was written meanwhile, and what it had by a repair.
    let _redis = Redis::start(&port, f.folder.path(), &[]);
    let back = (0..600).any(|_| {
        sleep();
        f.explain(key)["lies_on"] == "hot"
    });
    assert!(back, "{}", f.explain(key));
    assert_eq!(f.get("sira://ledger/n/7"), "steady");
    let report = repaired(&f, &[]);
    assert_eq!((&report["objects"], &report["behind"]), (&21.into(), &0.into()), "{report}");
    assert!(report["repaired"].as_u64().unwrap() >= 19, "{report}");
    let report = repaired(&f, &["--deep"]);
    assert_eq!((&report["objects"], &report["repaired"]), (&21.into(), &0.into()), "{report}");

    // The folder is lost, and the server restarted.
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    fs::remove_dir_all(folder.path().join("files")).unwrap();
    let f = Fixture { server: Fixture::serve(folder.path()), folder };
    assert_eq!(f.get(key), "2");
    let report = repaired(&f, &[]);
    assert_eq!((&report["objects"], &report["repaired"]), (&21.into(), &21.into()), "{report}");
    assert!(stored_bytes(&f.folder.path().join("files")) > 0);
    assert_eq!(replicas(&f, "ledger")["behind"], 0);

    let refused = run(&mut f.sira(&["--namespace", "other", "replicas", "repair"]));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("not replicated"), "{}", refused.stderr);
}

#[test]
fn a_password_that_was_changed_is_read_again_at_sighup() {
    let port = free_port();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "first\n").unwrap();
    let _redis = Redis::start(&port, folder.path(), &["--requirepass", "first"]);
    let f = Fixture::start(&format!(
        "[storage.backends.hot]\ntype = \"redis\"\nhost = \"127.0.0.1\"\nport = {port}\n\
         password_file = {secret:?}\n[namespaces.hot]\nbackends = [\"hot\"]\n"
    ));
    let put = || run_with_input(&mut f.sira(&["put", "sira://hot/k"]), b"v").code == 0;
    assert!(
        (0..600).any(|_| put() || {
            sleep();
            false
        }),
        "the server of the test answers"
    );

    let command = |password, args: &[&str]| {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &port, "--no-auth-warning", "-a", password]).args(args);
        let said = String::from_utf8(cli.output().unwrap().stdout).unwrap();
        assert!(!said.contains("ERR") && !said.contains("NOAUTH"), "{said}");
    };
    command("first", &["config", "set", "requirepass", "second"]);
    command("second", &["client", "kill", "type", "normal"]);
    // The settings are the same, and so is the password that they were opened with.
    assert!(
        (0..600).any(|_| !put() || {
            sleep();
            false
        }),
        "the old password still works"
    );
    fs::write(&secret, "second\n").unwrap();
    f.server.signal(Signal::HUP);
    assert!(
        (0..600).any(|_| put() || {
            sleep();
            false
        }),
        "the new password is not used"
    );
    assert_eq!(f.get("sira://hot/k"), "v");
}

#[test]
fn a_backend_that_holds_nothing_any_more_can_be_left_out() {
    let f = Fixture::start(TWO);
    f.put("cache:1", "kept");
    f.put("cache:2", "removed");
    f.put("sira://packed/text", "kept");
    run(&mut f.sira(&["rm", "cache:2"])).exits(0);
    let without = "[namespaces.packed]\ncompression = \"zstd\"\n";
    let leave_out = || {
        Fixture::write(f.folder.path(), without);
        f.server.signal(Signal::HUP);
    };
    leave_out();
    f.put("other", "v");
    for _ in 0..20 {
        sleep();
        assert_eq!(f.explain("cache:1")["lies_on"], "files", "the configuration is refused");
    }
    assert_eq!((f.get("cache:1"), f.get("sira://packed/text")), ("kept".into(), "kept".into()));

    Fixture::write(f.folder.path(), TWO);
    f.server.signal(Signal::HUP);
    run(&mut f.sira(&["migrate", "files", "embedded"])).exits(0);
    run(&mut f.sira(&["migrate", "files", "embedded", "-N", "packed"])).exits(0);
    leave_out();
    let left = (0..600).any(|_| {
        sleep();
        let stats = run(&mut f.sira(&["stats", "--json"])).exits(0).json().remove(0);
        stats["backends"].get("files").is_none()
    });
    assert!(left, "the configuration is applied");
    let check = |f: &Fixture| {
        assert_eq!((f.get("cache:1"), f.get("sira://packed/text")), ("kept".into(), "kept".into()));
        // Its place was there when it was removed.
        f.put("cache:2", "again");
        f.put("sira://packed/more", "new");
        assert_eq!((f.get("cache:2"), f.get("sira://packed/more")), ("again".into(), "new".into()));
    };
    check(&f);
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    check(&Fixture { server: Fixture::serve(folder.path()), folder });
}

#[test]
fn space_of_what_has_expired_is_given_back() {
    let f = Fixture::start(
        r#"
        [storage]
        maintenance_interval = "1s"
        [storage.backends.files]
        type = "filesystem"
        path = "FILES"
        [namespaces.brief]
        backends = ["files"]
        ttl = "1s"
        "#,
    );
    f.put("sira://brief/k", &"v".repeat(100_000));
    let files = f.folder.path().join("files");
    assert!(stored_bytes(&files) > 100_000);
    for _ in 0..200 {
        // It is counted when the round has ended, a little after the file went.
        let dropped = "sira_maintenance_dropped_records_total{backend=\"files\"} 1";
        let metrics = http(&f.server, "GET", "/metrics", b"").1;
        let metrics = String::from_utf8(metrics).unwrap();
        if stored_bytes(&files) < 1_000 && metrics.contains(dropped) {
            return;
        }
        sleep();
    }
    panic!("{} bytes stay, or were not counted", stored_bytes(&files));
}

#[test]
fn objects_of_a_direct_namespace_are_found_where_they_were() {
    let direct =
        |on: &str| format!("{TWO}[namespaces.own]\nbackends = [\"{on}\"]\ndirect = true\n");
    let f = Fixture::start(&direct("files"));
    f.put("sira://own/k", "kept");
    // Its new place has nothing of it.
    Fixture::write(f.folder.path(), &direct("embedded"));
    f.server.signal(Signal::HUP);
    for _ in 0..20 {
        sleep();
        assert_eq!(f.get("sira://own/k"), "kept");
    }
    Fixture::write(
        f.folder.path(),
        &format!("{TWO}[namespaces.own]\nbackends = [\"embedded\", \"files\"]\n"),
    );
    f.server.signal(Signal::HUP);
    f.await_route("sira://own/new", "embedded");
    assert_eq!(f.explain("sira://own/k")["lies_on"], "files");
    assert_eq!(f.get("sira://own/k"), "kept");
    run(&mut f.sira(&["migrate", "files", "embedded", "-N", "own"])).exits(0);
    // There is nothing of it elsewhere now; it settles there when the server starts.
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    Fixture::write(folder.path(), &direct("embedded"));
    let f = Fixture { server: Fixture::serve(folder.path()), folder };
    f.put("sira://own/new", "v");
    assert_eq!((f.get("sira://own/k"), f.get("sira://own/new")), ("kept".into(), "v".into()));
    assert_eq!(f.explain("sira://own/k")["lies_on"], "embedded");
}

#[test]
fn everything_is_found_after_a_restart_and_a_lost_backend_is_told() {
    let f = Fixture::start(TWO);
    f.put("cache:1", "kept");
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let f = Fixture { server: Fixture::serve(folder.path()), folder };
    assert_eq!(f.get("cache:1"), "kept");
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    server.wait();
    let root = folder.path().join("root");
    let refused = run(sira()
        .args(["serve", "--http-addr", "127.0.0.1:0", "--resp-addr", "127.0.0.1:0", "--root"])
        .arg(root));
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("files") && refused.stderr.contains("default"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_log_is_replayed_against_the_routing_and_others() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "{TWO}\n[storage.routing.prices.files]\nwrite_per_1000 = 5.0\n\
         [storage.routing.profiles.embedded]\nlatency_ms = 1.0\n"
    );
    Fixture::write(folder.path(), &config);
    let log: String = (0..200)
        .map(|number| {
            let kind = if number % 2 == 0 { "cache" } else { "data" };
            format!(
                "{{\"time_ms\":{},\"operation\":\"write\",\"key\":\"{kind}:{number}\",\"size\":100}}\n",
                number * 10
            )
        })
        .collect();
    fs::write(folder.path().join("log"), log).unwrap();
    let simulate = |more: &[&str]| {
        let mut command = sira();
        command.current_dir(folder.path()).args(["route", "simulate", "log"]);
        run(command.args(["--config", "sira.toml"]).args(more))
    };
    let result = simulate(&["--json", "--strategy", "cost"]).exits(0).json().remove(0);
    assert_eq!(result["operations"], 200);
    let policy = |name: &str| {
        let all = result["policies"].as_array().unwrap();
        all.iter().find(|policy| policy["policy"] == name).unwrap().clone()
    };
    let configured = policy("configured");
    assert_eq!(configured["backends"]["files"], 100, "{configured}");
    assert_eq!(configured["backends"]["embedded"], 100);
    let (half, all) =
        (configured["cost"].as_f64().unwrap(), policy("all on files")["cost"].as_f64());
    assert!((half - 0.5).abs() < 1e-6 && (all.unwrap() - 1.0).abs() < 1e-6, "{half} {all:?}");
    assert!(policy("all on embedded")["mean_ms"].as_f64() < configured["mean_ms"].as_f64());
    assert_eq!(policy("strategy cost")["backends"]["files"], 100, "patterns go first");
    let table = simulate(&[]).exits(0).text();
    assert!(table.contains("configured") && table.contains("files 50.0%"), "{table}");
    fs::write(folder.path().join("log"), "nonsense\n").unwrap();
    assert!(simulate(&[]).exits(2).stderr.contains("line 1"));
}

#[test]
fn doctor_asks_the_backends() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |config: &str| {
        Fixture::write(folder.path(), config);
        let mut command = sira();
        command.current_dir(folder.path()).args(["doctor", "--json", "--config", "sira.toml"]);
        let free = "127.0.0.1:0";
        let ran = run(command.env("SIRA_HTTP_ADDR", free).env("SIRA_RESP_ADDR", free));
        let found = ran.json().into_iter().find(|finding| finding["check"] == "backends").unwrap();
        (found["verdict"].as_str().unwrap().to_owned(), found["found"].as_str().unwrap().to_owned())
    };
    assert_eq!(doctor(TWO), ("ok".to_owned(), "files answer".to_owned()));
    let (verdict, found) = doctor("");
    assert!(verdict == "ok" && found.contains("filesystem"), "{found}");
    fs::write(folder.path().join("taken"), "").unwrap();
    let taken = folder.path().join("taken/below");
    let (verdict, found) = doctor(&TWO.replace("FILES", taken.to_str().unwrap()));
    assert!(verdict == "error" && found.starts_with("files: "), "{verdict} {found}");
}

#[test]
fn earlier_versions_are_listed_read_and_restored() {
    let f = Fixture::start(
        "[storage.backends.files]\ntype = \"filesystem\"\npath = \"FILES\"\n\
         [namespaces.prompts]\nbackends = [\"files\"]\nkeep_versions = 3\n",
    );
    let key = "sira://prompts/system";
    for text in ["one", "two", "three"] {
        f.put(key, text);
    }
    let listed = run(&mut f.sira(&["versions", "ls", key, "--json"])).exits(0).json();
    assert_eq!(listed.len(), 3);
    let version = |at: usize| listed[at]["version"].as_str().unwrap();
    let shown = run(&mut f.sira(&["versions", "ls", key])).exits(0).text();
    let first = shown.lines().next().unwrap();
    assert!(first.starts_with(version(0)) && first.ends_with("current"), "{shown}");
    assert!(shown.lines().skip(1).all(|line| line.contains("until 20")), "{shown}");
    assert_eq!(run(&mut f.sira(&["get", key, "--version-id", version(2)])).exits(0).text(), "one");
    let range = ["get", key, "--version-id", version(1), "--range", "1-2"];
    assert_eq!(run(&mut f.sira(&range)).exits(0).text(), "wo");
    assert_eq!(
        run(&mut f.sira(&["get", key, "--at", "2100-01-01T00:00:00Z"])).exits(0).text(),
        "three"
    );
    assert_eq!(run(&mut f.sira(&["get", key, "--at", "2000-01-01T00:00:00Z"])).code, 3);

    run(&mut f.sira(&["rm", key])).exits(0);
    let removed = run(&mut f.sira(&["-N", "prompts", "versions", "removed", "s"])).exits(0).text();
    assert!(removed.starts_with(version(0)) && removed.trim_end().ends_with("system"), "{removed}");

    // A restart in between.
    let Fixture { folder, server } = f;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().0, Some(0));
    let f = Fixture { server: Fixture::serve(folder.path()), folder };
    run(&mut f.sira(&["versions", "restore", key, "--version-id", version(2)])).exits(0);
    assert_eq!(f.get(key), "one");
    run(&mut f.sira(&["versions", "rm", key, "--version-id", version(1)])).exits(0);
    assert_eq!(run(&mut f.sira(&["versions", "rm", key, "--version-id", version(1)])).code, 3);
    run(&mut f.sira(&["versions", "rm", key, "--all"])).exits(0);
    let listed = run(&mut f.sira(&["versions", "ls", key, "--json"])).exits(0).json();
    assert_eq!(listed.len(), 1);
    assert_ne!(run(&mut f.sira(&["versions", "restore", key])).code, 0);
    assert_ne!(run(&mut f.sira(&["versions", "ls", "sira://default/k"])).code, 0);
}

#[test]
fn rules_of_the_lifecycle_are_tried_and_looked_to() {
    let f = Fixture::start(
        "[storage.backends.files]\ntype = \"filesystem\"\npath = \"FILES\"\n\
         [[storage.lifecycle.rules]]\nname = \"old\"\naction = \"expire\"\nkeys = \"tmp/*\"\n\
         [[storage.lifecycle.rules]]\nname = \"cold\"\naction = \"move\"\nto = \"files\"\n\
         namespaces = [\"data\"]\n",
    );
    for key in ["tmp/1", "tmp/2", "a"] {
        f.put(&format!("sira://data/{key}"), "value");
    }
    let shown = run(&mut f.sira(&["lifecycle", "ls"])).exits(0).text();
    assert!(shown.contains("keys tmp/*") && shown.contains("no run yet"), "{shown}");
    let dry = run(&mut f.sira(&["lifecycle", "run", "--dry-run", "--json"])).exits(0).json();
    assert_eq!(dry[0]["rules"]["old"]["objects"], 2);
    assert_eq!(f.get("sira://data/tmp/1"), "value");
    let done = run(&mut f.sira(&["lifecycle", "run"])).exits(0).text();
    assert!(done.starts_with("3 objects looked at"), "{done}");
    assert_eq!(run(&mut f.sira(&["get", "sira://data/tmp/1"])).code, 3);
    assert_eq!(f.explain("sira://data/a")["lies_on"], "files");
    assert_eq!(f.get("sira://data/a"), "value");
}
