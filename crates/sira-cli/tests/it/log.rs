//! log verify, repair, dump, tail, import.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Ran, Server, noise, run, run_with_input, sira};

fn log(root: &Path, args: &[&str]) -> Ran {
    run(sira().arg("log").args(args).arg("--root").arg(root))
}

fn import(root: &Path, args: &[&str], input: &[u8]) -> Ran {
    run_with_input(sira().args(["log", "import"]).args(args).arg("--root").arg(root), input)
}

/// The only segment file of a folder.
fn segment(root: &Path) -> PathBuf {
    let month = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        .unwrap();
    fs::read_dir(month).unwrap().next().unwrap().unwrap().path()
}

fn flip(path: &Path, offset: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn what_is_imported_is_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("log");
    let ran = import(&root, &["--json"], b"one\r\ntwo\n\nlast").exits(0);
    assert_eq!((&ran.json()[0]["items"], &ran.json()[0]["bytes"]), (&json!(4), &json!(10)));
    import(&root, &["--format", "json"], b"{\"a\":1}\n\n[2]\n").exits(0);
    let blob = noise(3_000_000, 5);
    import(&root, &["--format", "binary"], &blob).exits(0);

    let items = log(&root, &["dump", "--json"]).exits(0).json();
    let texts: Vec<&str> = items.iter().filter_map(|item| item["data"].as_str()).collect();
    assert_eq!(texts, ["one", "two", "", "last", "{\"a\":1}", "[2]"]);
    let sequences: Vec<u64> = items.iter().map(|item| item["sequence"].as_u64().unwrap()).collect();
    let first = sequences[0];
    assert_eq!(sequences, (first..first + 7).collect::<Vec<_>>());
    assert_eq!((&items[6]["kind"], &items[6]["bytes"]), (&json!("binary"), &json!(3_000_000)));

    let some = log(&root, &["dump", "--json", "--kind", "json", "--limit", "1"]).exits(0).json();
    assert_eq!(some, [items[4].clone()]);
    let from = format!("{}:{}", items[4]["segment"], items[4]["offset"]);
    assert_eq!(log(&root, &["dump", "--json", "--from", &from]).exits(0).json(), items[4..]);
    let last = sequences[6].to_string();
    assert_eq!(log(&root, &["dump", "--json", "--sequence", &last]).exits(0).json(), items[6..]);
    let text = log(&root, &["dump"]).exits(0).text();
    assert!(text.contains("  text  one\n") && text.contains("(3000000 bytes)"), "{text}");
    assert!(log(&root, &["dump", "--raw"]).exits(0).text().contains("kind 0x"));

    // A dump is an import again, times included.
    let dump = log(&root, &["dump", "--json"]).exits(0);
    let copy = folder.path().join("copy");
    import(&copy, &["--format", "dump"], &dump.stdout).exits(0);
    let copied = log(&copy, &["dump", "--json"]).exits(0).json();
    for (item, copy) in items.iter().zip(&copied) {
        for field in ["kind", "time_ms", "data", "data_base64"] {
            assert_eq!(item.get(field), copy.get(field));
        }
    }
    assert_eq!(copied.len(), items.len());
}

#[test]
fn input_of_another_format_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("log");
    let ran = import(&root, &["--format", "json"], b"{}\nnot json\n").exits(2);
    assert!(ran.stderr.contains("line 2"), "{}", ran.stderr);
    let ran = import(&root, &[], b"ok\n\xff\xfe\n").exits(2);
    assert!(ran.stderr.contains("line 2") && ran.stderr.contains("--format binary"));
    import(&root, &["--format", "dump"], b"{}\n").exits(2);
    import(&root, &["/no/such/file"], b"").exits(3);

    let store = folder.path().join("store");
    run_with_input(sira().args(["put", "k", "--root"]).arg(&store), b"v").exits(0);
    let ran = import(&store, &[], b"line\n").exits(2);
    assert!(ran.stderr.contains("holds a store"), "{}", ran.stderr);
}

#[test]
fn damage_is_found_repaired_and_read_around() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("log");
    let marker = "x".repeat(2_000);
    for line in ["before", &marker, "after"] {
        import(&root, &[], line.as_bytes()).exits(0);
    }
    let ran = log(&root, &["verify", "--json"]).exits(0);
    let report = &ran.json()[0];
    assert_eq!((&report["ok"], &report["records"]), (&json!(true), &json!(3)));

    let path = segment(&root);
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|eight| eight == b"xxxxxxxx").unwrap();
    flip(&path, at as u64 + 100);
    let ran = log(&root, &["verify", "--json"]).exits(7);
    let report = &ran.json()[0];
    assert_eq!(report["ok"], false);
    assert_eq!(report["damage"].as_array().unwrap().len(), 1, "{report}");
    let text = log(&root, &["verify"]).exits(7);
    assert!(text.text().contains("DAMAGED") && text.stderr.contains("sira log repair"));
    let around = log(&root, &["dump"]).exits(7);
    assert!(around.text().contains("before") && around.text().contains("after"));
    assert!(!around.text().contains("xxxx"));

    log(&root, &["repair", "-n"]).exits(7);
    let ran = log(&root, &["repair", "--json"]).exits(0);
    let report = &ran.json()[0];
    assert_eq!(report["lost"].as_array().unwrap().len(), 1, "{report}");
    let saved = report["saved_to"][0].as_str().unwrap();
    assert!(Path::new(saved).is_file(), "{saved}");
    log(&root, &["verify"]).exits(0);
    import(&root, &[], b"goes on").exits(0);
    let text = log(&root, &["dump"]).exits(0).text();
    assert!(text.contains("before") && text.contains("after") && text.contains("goes on"));
    assert!(log(&root, &["repair"]).exits(0).text().contains("nothing to mend"));
}

#[test]
fn a_store_can_be_verified_and_dumped() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    run_with_input(sira().args(["put", "k", "--root"]).arg(root), b"value").exits(0);
    let report = log(root, &["verify", "--json"]).exits(0).json().remove(0);
    assert_eq!(report["ok"], true);
    assert!(report["records"].as_u64().unwrap() >= 1);
    assert!(log(root, &["dump"]).exits(0).text().contains("entries in"));
    assert_eq!(run(sira().args(["get", "k", "--root"]).arg(root)).exits(0).text(), "value");

    // A server holds it: reading goes on, checking has to wait.
    let server = Server::start(root);
    assert!(log(root, &["dump"]).exits(0).text().contains("entries in"));
    let ran = log(root, &["verify"]).exits(4);
    assert!(ran.stderr.contains(&server.child.id().to_string()), "{}", ran.stderr);
}

#[test]
fn a_folder_without_a_log_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["verify", "repair", "dump", "tail"] {
        log(folder.path(), &[verb]).exits(3);
        log(&folder.path().join("typo"), &[verb]).exits(3);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn tail_shows_the_end_and_follows() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    import(root, &[], b"1\n2\n3\n4\n").exits(0);
    let last = log(root, &["tail", "-c", "2", "--no-follow", "--json"]).exits(0).json();
    let data: Vec<&str> = last.iter().map(|item| item["data"].as_str().unwrap()).collect();
    assert_eq!(data, ["3", "4"]);

    let mut child = sira()
        .args(["log", "tail", "-c", "1", "--json", "--root"])
        .arg(root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let item: serde_json::Value = serde_json::from_str(&line).unwrap();
        item["data"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "4");
    for line in ["5", "6"] {
        import(root, &[], line.as_bytes()).exits(0);
        assert_eq!(next(), line);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn an_import_from_a_pipe_that_stays_open_is_stopped_whole() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("log");
    let mut child = sira()
        .args(["log", "import", "--root"])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines: String = (0..1_500).map(|number| format!("{number}\n")).collect();
    stdin.write_all(lines.as_bytes()).unwrap();
    // Wait until the first batch is in the log.
    while log(&root, &["dump"]).text().lines().count() < 1_000 {}
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(log(&root, &["dump"]).exits(0).text().lines().count(), 1_000);
    log(&root, &["verify"]).exits(0);
}
