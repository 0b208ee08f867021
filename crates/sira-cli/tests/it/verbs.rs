//! put, get, cat, ls, rm, stat.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{each_place, noise, run, run_with_input, sira};

#[test]
fn what_is_put_is_got() {
    each_place(|place| {
        let big = noise(3_000_000, 7);
        for (key, value) in [
            ("empty", &b""[..]),
            ("binary", &[0, 255, 10, 13][..]),
            ("a/b c?d#e%f+é", b"odd key"),
            ("dots/../x", b"not a path"),
            ("_batch", b"a key like any other"),
            ("big", &big[..]),
        ] {
            place.put(key, value);
            assert_eq!(place.run(["get", key]).exits(0).stdout, value, "{} {key}", place.name);
        }
        let file = place.files.path().join("in.bin");
        fs::write(&file, &big).unwrap();
        place.run(["put", "sira://other/file", "in.bin"]).exits(0);
        place.run(["get", "sira://other/file", "-o", "out.bin"]).exits(0);
        assert_eq!(fs::read(place.files.path().join("out.bin")).unwrap(), big);
        place.run(["get", "file", "-N", "other", "--output", "-"]).exits(0);
        assert_eq!(place.run(["get", "file", "-N", "other"]).exits(0).stdout, big);
        assert_eq!(place.run(["get", "big", "--range", "10-19"]).exits(0).stdout, big[10..20]);
        assert_eq!(
            place.run(["get", "big", "--range", "2999990-"]).exits(0).stdout,
            big[2_999_990..]
        );
        let both = place.run(["cat", "a/b c?d#e%f+é", "dots/../x"]).exits(0);
        assert_eq!(both.text(), "odd keynot a path");
    });
}

#[test]
fn a_failed_get_leaves_the_file_as_it_was() {
    each_place(|place| {
        let file = place.files.path().join("keep.txt");
        fs::write(&file, "old").unwrap();
        place.run(["get", "missing", "-o", "keep.txt"]).exits(3);
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(place.files.path()).unwrap().count(), 1);
    });
}

#[test]
fn conditions_hold_or_exit_with_4() {
    each_place(|place| {
        let first = place.put("k", b"1");
        place.run(["put", "k", "--if-absent"]).exits(4);
        place.run(["put", "fresh", "--if-absent"]).exits(0);
        place.run(["put", "k", "--if-match", &first]).exits(0);
        let lost = place.run(["put", "k", "--if-match", &first, "--json"]).exits(4);
        assert_eq!(lost.error()["code"], "precondition_failed");
        assert_eq!(lost.error()["exit_code"], 4);
        place.run(["rm", "k", "--if-match", &first]).exits(4);
        place.run(["rm", "k", "--if-match", &first, "--dry-run"]).exits(4);
        place.run(["put", "k", "--if-match", "xyz"]).exits(2);
    });
}

#[test]
fn stat_shows_what_was_kept() {
    each_place(|place| {
        let version = {
            let mut command = place.sira([
                "put",
                "k",
                "--json",
                "--ttl",
                "1h",
                "--content-type",
                "text/plain",
                "--meta",
                "Owner=me",
                "--meta",
                "note=a b",
                "--durability",
                "none",
            ]);
            let ran = run_with_input(&mut command, b"hello").exits(0);
            let record = ran.json().remove(0);
            assert_eq!(record["verb"], "put");
            assert_eq!(record["namespace"], "default");
            assert_eq!(record["key"], "k");
            record["version"].as_str().unwrap().to_owned()
        };
        let record = place.run(["stat", "k", "--json"]).exits(0).json().remove(0);
        assert_eq!(record["size"], 5);
        assert_eq!(record["version"], version.as_str());
        assert_eq!(record["content_type"], "text/plain");
        assert_eq!(record["metadata"], json!({"owner": "me", "note": "a b"}));
        assert!(record["expires"].as_str().unwrap() > record["modified"].as_str().unwrap());
        let text = place.run(["stat", "k"]).exits(0).text();
        for part in ["sira://default/k", "5 bytes", &version, "text/plain", "owner=me"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        place.put("plain", b"x");
        let record = place.run(["stat", "plain", "--json"]).exits(0).json().remove(0);
        assert_eq!(record.get("content_type"), None, "{}: {record}", place.name);
        place.run(["stat", "missing"]).exits(3);
    });
}

#[test]
fn an_object_is_gone_when_its_time_ends() {
    each_place(|place| {
        run_with_input(&mut place.sira(["put", "k", "--ttl", "1ms"]), b"x").exits(0);
        // The put itself took longer than the object lives, unless the clock stands still.
        while place.run(["get", "k"]).code == 0 {}
        place.run(["stat", "k"]).exits(3);
        assert_eq!(place.run(["ls", "k"]).exits(0).text(), "");
        place.run(["put", "k", "--ttl", "0"]).exits(2);
    });
}

#[test]
fn ls_folds_pages_and_lists_namespaces() {
    each_place(|place| {
        for key in ["a", "b/1", "b/2", "b/c/3", "bb", "z"] {
            place.put(key, key.as_bytes());
        }
        place.put("sira://second/x", b"1");
        let ls = |args: &[&str]| {
            let mut command = place.sira(["ls"]);
            run(command.args(args)).exits(0).text()
        };
        // A server makes the namespaces of the RESP databases.
        let own = |text: String| -> Vec<String> {
            text.lines().filter(|line| !line.contains("db")).map(str::to_owned).collect()
        };
        assert_eq!(own(ls(&[])), ["sira://default/", "sira://second/"]);
        assert_eq!(ls(&["sira://default"]), "a\nb/\nbb\nz\n");
        assert_eq!(ls(&[""]), "a\nb/\nbb\nz\n");
        assert_eq!(ls(&["b/"]), "b/1\nb/2\nb/c/\n");
        assert_eq!(ls(&["b"]), "b/\nbb\n");
        assert_eq!(ls(&["-r", "b"]), "b/1\nb/2\nb/c/3\nbb\n");
        assert_eq!(
            ls(&["-r", "sira://default", "--start-after", "b/2", "--limit", "2"]),
            "b/c/3\nbb\n"
        );
        assert_eq!(ls(&["sira://nowhere"]), "");
        let long = ls(&["-l", "bb"]);
        let columns: Vec<&str> = long.split_whitespace().collect();
        assert_eq!((columns[1], columns[3]), ("2", "bb"), "{long}");
        assert_eq!(columns[2].len(), 16, "{long}");

        let json = place.run(["ls", "b/", "--json"]).exits(0).json();
        assert_eq!(json[0]["namespace"], "default");
        assert_eq!(json[0]["key"], "b/1");
        assert_eq!(json[0]["size"], 3);
        assert_eq!(json[2], json!({"namespace": "default", "prefix": "b/c/"}));
        let json = place.run(["ls", "a", "-l", "--json"]).exits(0).json();
        assert!(json[0]["version"].is_string() && json[0]["modified"].is_string(), "{json:?}");
        let namespaces = place.run(["ls", "--json"]).exits(0).json();
        assert!(namespaces.contains(&json!({"namespace": "default"})), "{namespaces:?}");
    });
}

#[test]
fn ls_goes_on_over_pages() {
    each_place(|place| {
        let folder = place.files.path().join("many");
        fs::create_dir(&folder).unwrap();
        for number in 0..2_300 {
            fs::write(folder.join(format!("{number:05}")), "").unwrap();
        }
        place.run(["cp", "-r", "-q", "many", "sira://many", "--durability", "none"]).exits(0);
        let text = place.run(["ls", "-r", "sira://many"]).exits(0).text();
        let expected: String = (0..2_300).map(|number| format!("{number:05}\n")).collect();
        assert_eq!(text, expected);
        place.run(["rm", "-r", "-q", "sira://many"]).exits(0);
        assert_eq!(place.run(["ls", "-r", "sira://many"]).exits(0).text(), "");
    });
}

#[test]
fn rm_asks_shows_and_removes() {
    each_place(|place| {
        for key in ["a", "b/1", "b/2", "bb"] {
            place.put(key, b"x");
        }
        assert_eq!(place.run(["rm", "-n", "a"]).exits(0).text(), "would remove sira://default/a\n");
        assert_eq!(place.run(["rm", "-n", "-r", "b/"]).exits(0).text().lines().count(), 2);
        place.run(["get", "a"]).exits(0);
        run_with_input(&mut place.sira(["rm", "-i", "a"]), b"n\n").exits(0);
        place.run(["get", "a"]).exits(0);
        let asked = run_with_input(&mut place.sira(["rm", "-i", "a"]), b"y\n").exits(0);
        assert!(asked.stderr.contains("remove sira://default/a?"), "{}", asked.stderr);
        place.run(["get", "a"]).exits(3);
        let missing = place.run(["rm", "a", "bb", "--json"]).exits(3);
        assert_eq!(
            missing.json()[0],
            json!({"verb": "rm", "namespace": "default", "key": "bb", "removed": true, "dry_run": false})
        );
        place.run(["rm", "-f", "a"]).exits(0);
        assert_eq!(place.run(["rm", "-r", "b/", "-q"]).exits(0).text(), "");
        assert_eq!(place.run(["ls", "-r", "sira://default"]).exits(0).text(), "");
        place.run(["rm", "-r", ""]).exits(2);
        place.run(["rm", "sira://default"]).exits(2);
    });
}

#[test]
fn values_in_json_are_text_or_base64() {
    each_place(|place| {
        place.put("t", "grüße".as_bytes());
        place.put("b", &[255, 0]);
        let json = place.run(["cat", "t", "b", "--json"]).exits(0).json();
        assert_eq!((&json[0]["value"], &json[0]["key"]), (&json!("grüße"), &json!("t")));
        assert_eq!((&json[1]["value_base64"], &json[1]["size"]), (&json!("/wA="), &json!(2)));
        let json = place.run(["get", "t", "-o", "f", "--json"]).exits(0).json();
        assert_eq!((&json[0]["file"], json[0].get("value")), (&json!("f"), None));
    });
}

#[test]
fn errors_say_what_to_do() {
    let nobody = ["--server", "http://127.0.0.1:1", "--json"];
    let ran = run(sira().args(["get", "k"]).args(nobody)).exits(5);
    let message = ran.error()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("sira serve") && message.contains("127.0.0.1:1"), "{message}");

    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("typo");
    let ran = run(sira().args(["ls", "--root"]).arg(&missing)).exits(3);
    assert!(
        ran.stderr.contains("there is no folder") && ran.stderr.contains("try:"),
        "{}",
        ran.stderr
    );
    assert!(!missing.exists());

    fs::write(folder.path().join("mine.txt"), "x").unwrap();
    let ran = run(sira().args(["ls", "--root"]).arg(folder.path())).exits(3);
    assert!(ran.stderr.contains("holds no store"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    run(sira().args(["put", "k", "/no/such/file", "--root"]).arg(&missing)).exits(3);
    assert!(!missing.exists());
    run(sira().args(["get"])).exits(2);
    run(sira().args(["get", "k", "--nonsense"])).exits(2);
    run(sira().args(["get", "sira:///k"])).exits(2);
    let long = "k".repeat(1_025);
    run(sira().args(["put", &long, "--root"]).arg(folder.path())).exits(2);
}

#[test]
fn a_large_body_is_refused_with_the_reason() {
    each_place(|place| {
        let big = noise(30_000_000, 9);
        fs::write(place.files.path().join("big"), &big).unwrap();
        place.run(["put", "k", "big"]).exits(0);
        place.run(["put", "k", "big", "--if-absent"]).exits(4);
        run_with_input(&mut place.sira(["put", "k", "--if-absent"]), &big).exits(4);
        assert_eq!(place.run(["get", "k"]).exits(0).stdout, big);
    });
    let root = tempfile::tempdir().unwrap();
    let server = crate::support::Server::start_with(root.path(), |command| {
        command.env("SIRA_TOKEN", "right-token-0123456789");
    });
    run_with_input(sira().args(["put", "k", "--server", &server.http]), &noise(30_000_000, 9))
        .exits(6);
}

#[test]
fn a_closed_pipe_is_no_error() {
    each_place(|place| {
        place.put("big", &noise(5_000_000, 3));
        let mut child = place
            .sira(["cat", "big"])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    });
}

#[test]
fn a_wrong_token_exits_with_6() {
    let root = tempfile::tempdir().unwrap();
    let server = crate::support::Server::start_with(root.path(), |command| {
        command.env("SIRA_TOKEN", "right-token-0123456789");
    });
    assert_eq!(server.ready["token"], true);
    let ls = |token: Option<&str>| {
        let mut command = sira();
        command.args(["ls", "--server", &server.http]);
        if let Some(token) = token {
            command.env("SIRA_TOKEN", token);
        }
        run(&mut command)
    };
    let without = ls(None).exits(6);
    assert!(without.stderr.contains("SIRA_TOKEN"), "{}", without.stderr);
    ls(Some("wrong-token-0123456789")).exits(6);
    ls(Some("right-token-0123456789")).exits(0);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "right-token-0123456789\n").unwrap();
    run(sira().args(["ls", "--server", &server.http, "--token-file"]).arg(file.path())).exits(0);
}

/// A server that answers one request with these bytes, and then does `after` with the connection.
fn answers(bytes: Vec<u8>, after: impl FnOnce(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    #[allow(clippy::disallowed_methods, reason = "tests run on the system's own threads")]
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(&bytes).unwrap();
        after(stream);
    });
    server
}

const HALF: &[u8] =
    b"HTTP/1.1 200 OK\r\netag: \"0190f3c2a1b40000\"\r\ncontent-length: 10\r\n\r\nhello";

#[test]
fn a_server_of_another_kind_makes_nothing_look_missing() {
    for verb in [&["get", "k"][..], &["stat", "k"], &["rm", "-f", "k"], &["ls", "sira://ns"]] {
        let page =
            b"HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n";
        let server = answers(page.to_vec(), drop);
        let failed = run(sira().args(verb).args(["--server", &server])).exits(2);
        assert!(failed.stderr.contains("does not answer like a Sira server"), "{}", failed.stderr);
    }
}

#[test]
fn a_download_that_breaks_off_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = answers(HALF.to_vec(), drop);
    let ran =
        run(sira().args(["get", "k", "-o", "f", "--server", &server]).current_dir(folder.path()))
            .exits(5);
    assert!(ran.stderr.contains("5 of 10 bytes"), "{}", ran.stderr);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_signal_during_a_download_leaves_no_file() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = tempfile::tempdir().unwrap();
        let server = answers(HALF.to_vec(), |mut stream| {
            // Stays until the client has gone.
            let _ = stream.read(&mut [0]);
        });
        let mut child = sira()
            .args(["get", "k", "-o", "f", "--server", &server])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        while fs::read_dir(folder.path()).unwrap().count() == 0 {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it wrote");
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn answers_of_something_else_are_told_apart() {
    let cases: [(&[u8], i32, &str); 4] = [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            2,
            "does not answer like a Sira server",
        ),
        (b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", 5, "status 503"),
        (b"HTTP/1.1 302 x\r\nlocation: /a\r\ncontent-length: 0\r\n\r\n", 1, "status 302"),
        (b"SSH-2.0-x\r\n\r\n", 1, "failed"),
    ];
    for (answer, code, part) in cases {
        let server = answers(answer.to_vec(), drop);
        let ran = run(sira().args(["get", "k", "--server", &server])).exits(code);
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
}
