use super::*;

fn moving() -> Option<Moving> {
    Some(Moving { to: "c".to_owned(), mover: 7, since_ms: 1_795_000_000_000, copied: Some(9) })
}

fn level_on(name: &str) -> Copies {
    Copies { on: [(name.to_owned(), Some(3))].into(), ..Copies::default() }
}

/// Entries and their bytes, which every later version must read.
fn golden() -> Vec<(Entry, &'static str)> {
    let copies = Copies {
        on: [("b".to_owned(), Some(u64::MAX)), ("d".to_owned(), None)].into(),
        left: ["e".to_owned()].into(),
        writing: Some(Writing { writer: 5, since_ms: 1_795_000_000_001 }),
        ..Copies::default()
    };
    let gone = Copies { absent: true, ..Copies::default() };
    let short = Copies { expires_at_ms: Some(1_795_000_000_002), ..level_on("b") };
    let level = level_on("b");
    vec![
        (Entry::at("a"), r#"{"at":"a"}"#),
        (
            Entry { moving: moving(), ..Entry::at("a") },
            r#"{"at":"a","moving":{"to":"c","mover":7,"since_ms":1795000000000,"copied":9}}"#,
        ),
        (
            Entry { copies: level, ..Entry::at("a") },
            r#"{"format":2,"object":{"at":"a","copies":{"on":{"b":3}}}}"#,
        ),
        (
            Entry { copies: gone, ..Entry::at("a") },
            r#"{"format":2,"object":{"at":"a","copies":{"absent":true}}}"#,
        ),
        (
            Entry { copies: short, ..Entry::at("a") },
            r#"{"format":2,"object":{"at":"a","copies":{"on":{"b":3},"expires_at_ms":1795000000002}}}"#,
        ),
        (
            Entry { moving: moving(), copies, ..Entry::at("a") },
            concat!(
                r#"{"format":2,"object":{"at":"a","#,
                r#""moving":{"to":"c","mover":7,"since_ms":1795000000000,"copied":9},"#,
                r#""copies":{"on":{"b":18446744073709551615,"d":null},"left":["e"],"#,
                r#""writing":{"writer":5,"since_ms":1795000000001}}}}"#,
            ),
        ),
    ]
}

#[test]
fn bytes_are_those_of_the_format() {
    for (entry, bytes) in golden() {
        assert_eq!(serde_json::to_string(&entry).unwrap(), bytes);
        assert_eq!(serde_json::from_str::<Entry>(bytes).unwrap(), entry);
    }
}

#[test]
fn what_is_no_entry_is_refused() {
    for (bytes, why) in [
        (r#"{"format":3,"object":{"at":"a","copies":{}}}"#, "newer version"),
        (r#"{"format":3}"#, "newer version"),
        (r#"{"format":2}"#, "no backend"),
        (r#"{"moving":null}"#, "no backend"),
    ] {
        let error = serde_json::from_str::<Entry>(bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{bytes}: {error}");
    }
}

/// What a version that knows no copies reads.
#[test]
fn a_reader_that_knows_no_copies_refuses_entries_that_have_some() {
    #[derive(Deserialize)]
    struct Before {
        #[allow(dead_code, reason = "it is read or it is not")]
        at: String,
    }
    for (entry, bytes) in golden() {
        assert_eq!(serde_json::from_str::<Before>(bytes).is_ok(), entry.copies.is_empty());
    }
}
