//! config show, check, example; precedence through the real binary.

use std::fs;

use serde_json::Value;

use crate::support::{Server, run, sira};

#[test]
fn show_names_the_source_of_each_value() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    fs::write(&file, "root = \"/from/file\"\nhttp_addr = \"127.0.0.1:1\"\nnamespace = \"f\"\n")
        .unwrap();
    let ran = run(sira()
        .args(["config", "show", "--json", "-N", "flag", "--config"])
        .arg(&file)
        .env("SIRA_HTTP_ADDR", "127.0.0.1:2")
        .env("SIRA_TOKEN", "secret-token"))
    .exits(0);
    assert!(!ran.text().contains("secret-token"));
    let of = |name: &str| -> Value {
        ran.json().into_iter().find(|record| record["setting"] == name).unwrap()
    };
    let pair = |name: &str| {
        let record = of(name);
        let text = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
        (text("value"), text("source"))
    };
    let expect = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(pair("namespace"), expect("flag", "flag --namespace"));
    assert_eq!(pair("http_addr"), expect("127.0.0.1:2", "environment SIRA_HTTP_ADDR"));
    assert_eq!(pair("root"), expect("/from/file", &format!("{}:1:8", file.display())));
    assert_eq!(pair("durability"), expect("sync", "default"));
    assert_eq!(pair("token"), expect("(hidden)", "environment SIRA_TOKEN"));
    assert_eq!(pair("token_file"), expect("-", "default"));
}

#[test]
fn serve_follows_flag_environment_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    fs::write(&file, "durability = \"none\"\nresp_addr = \"127.0.0.1:1\"\n").unwrap();
    let server = Server::start_with(&folder.path().join("data"), |command| {
        command.arg("--config").arg(&file).env("SIRA_DURABILITY", "interval:50");
    });
    assert_eq!(server.ready["durability"], "interval:50");
    assert!(!server.resp.ends_with(":1"));
    drop(server);
    let server = Server::start_with(&folder.path().join("data"), |command| {
        command.arg("--config").arg(&file);
    });
    assert_eq!(server.ready["durability"], "none");
}

#[test]
fn check_names_line_column_and_the_nearest_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    fs::write(&file, "# ok\nhtp_addr = \"127.0.0.1:1\"\nmax_connections = 0\n").unwrap();
    let ran = run(sira().args(["config", "check"]).arg(&file)).exits(2);
    let at = |line: usize, column: usize| format!("{}:{line}:{column}", file.display());
    assert!(ran.stderr.contains(&at(2, 1)), "{}", ran.stderr);
    assert!(ran.stderr.contains("try: http_addr"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&at(3, 19)), "{}", ran.stderr);
    let json = run(sira().args(["config", "check", "--json"]).arg(&file)).exits(2).json();
    assert_eq!(json[0]["ok"], false);
    assert_eq!(json[0]["errors"].as_array().unwrap().len(), 2);
    run(sira().args(["serve", "--config"]).arg(&file)).exits(2);
    run(sira().args(["config", "check", "/no/such/file"])).exits(3);
}

#[test]
fn the_example_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    let example = run(sira().args(["config", "example"])).exits(0);
    fs::write(&file, &example.stdout).unwrap();
    let ran = run(sira().args(["config", "check"]).arg(&file)).exits(0);
    assert!(ran.text().contains("all settings are right"), "{}", ran.text());
}

#[test]
fn a_wrong_value_names_where_it_came_from() {
    let ran = run(sira().args(["serve"]).env("SIRA_DURABILITY", "always")).exits(2);
    assert!(ran.stderr.contains("environment SIRA_DURABILITY"), "{}", ran.stderr);
    let ran = run(sira().args(["serve", "--http-addr", "localhost"])).exits(2);
    assert!(ran.stderr.contains("flag --http-addr"), "{}", ran.stderr);
}

#[test]
fn storage_is_checked_and_shown_with_its_places() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("s.toml");
    let right = "[storage]\ndefault_backend = \"files\"\n\n[storage.backends.files]\n\
                 type = \"filesystem\"\npath = \"/var/lib/sira\"\n\n[namespaces.a]\nttl = \"1h\"\n";
    fs::write(&file, right).unwrap();
    run(sira().args(["config", "check"]).arg(&file)).exits(0);
    let show = || run(sira().args(["config", "show", "--json", "--config"]).arg(&file)).exits(0);
    let of = |name: &str| {
        let found = show().json().into_iter().find(|record| record["setting"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
    };
    let at = |line: usize, column: usize| format!("{}:{line}:{column}", file.display());
    assert_eq!(of("storage.default_backend"), ("files".to_owned(), at(2, 19)));
    assert_eq!(of("storage.backends.files.path"), ("/var/lib/sira".to_owned(), at(6, 8)));
    assert_eq!(of("namespaces.a.ttl"), ("1h".to_owned(), at(9, 7)));

    let wrong = right.replace("\"files\"", "\"file\"").replace("path", "pth") + "[storag]\n";
    fs::write(&file, wrong + "password = \"hunter2\"\n").unwrap();
    let ran = run(sira().args(["config", "check"]).arg(&file)).exits(2);
    for says in [
        format!("{}: there is no backend \"file\"", at(2, 19)),
        format!("{}: unknown setting \"storage.backends.files.pth\"", at(6, 1)),
        "try: storage.backends.files.path".to_owned(),
        format!("{}: unknown setting \"storag\"", at(10, 2)),
        "try: [storage]".to_owned(),
    ] {
        assert!(ran.stderr.contains(&says), "{says}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    run(sira().args(["config", "show", "--config"]).arg(&file)).exits(2);
    fs::write(&file, "").unwrap();
    assert_eq!(of("storage.default_backend"), ("embedded".to_owned(), "default".to_owned()));
}
