use super::*;

fn wrong(text: &str) -> Vec<(String, Option<String>)> {
    parse(Path::new("c.toml"), text).wrong.into_iter().map(|f| (f.message, f.hint)).collect()
}

#[test]
fn values_carry_their_place() {
    let Parsed { values, wrong, .. } =
        parse(Path::new("c.toml"), "# note\nroot = \"é\"\n  max_connections = 1_000\n");
    assert_eq!(wrong, []);
    let found: Vec<_> =
        values.iter().map(|(s, v)| (*s, v.text.as_deref(), v.source.to_string())).collect();
    assert_eq!(
        found,
        [
            (Setting::Root, Some("é"), "c.toml:2:8".to_owned()),
            (Setting::MaxConnections, Some("1000"), "c.toml:3:21".to_owned()),
        ]
    );
}

#[test]
fn a_misspelt_name_gets_the_nearest_right_one() {
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        wrong("htp_addr = 1\nxyzzy = 2\nHTTP-ADDR = 3"),
        [
            ("c.toml:1:1: unknown setting \"htp_addr\"".to_owned(), some("http_addr = ...")),
            ("c.toml:2:1: unknown setting \"xyzzy\"".to_owned(), some("sira config example")),
            ("c.toml:3:1: unknown setting \"HTTP-ADDR\"".to_owned(), some("http_addr = ...")),
        ]
    );
}

#[test]
fn broken_toml_other_types_and_secrets_are_refused_with_their_place() {
    assert!(wrong("root = \n")[0].0.starts_with("c.toml:1:"), "{:?}", wrong("root = \n"));
    assert_eq!(wrong("\nroot = 5")[0].0, "c.toml:2:8: root is a text in quotes, this is a integer");
    assert_eq!(wrong("max_connections = \"5\"")[0].1.as_deref(), Some("max_connections = 20000"));
    assert_eq!(wrong("token = \"x\"")[0].0, "c.toml:1:1: token does not belong in a file");
}
