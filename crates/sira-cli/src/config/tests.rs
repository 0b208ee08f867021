use super::*;
use crate::failure::Exit;

fn resolve(flags: &Flags, file: Option<&Path>, env: &[(&str, &str)]) -> Outcome<Config> {
    Config::resolve_with(flags, file, |name| {
        env.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned())
    })
}

fn written(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn the_table_is_in_the_order_of_the_enum() {
    for (at, spec) in SETTINGS.iter().enumerate() {
        assert_eq!(spec.setting as usize, at, "{}", spec.key);
        assert_eq!(spec.env, format!("SIRA_{}", spec.key.to_ascii_uppercase()));
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file =
        written("root = \"file\"\nhttp_addr = \"127.0.0.1:1\"\nresp_addr = \"127.0.0.1:2\"\n");
    let mut flags = Flags::default();
    flags.set(Setting::Root, Some("flag"));
    let env = [("SIRA_ROOT", "env"), ("SIRA_HTTP_ADDR", "127.0.0.1:3"), ("SIRA_DURABILITY", "")];
    let config = resolve(&flags, Some(file.path()), &env).unwrap();
    let shown = |setting| {
        let value = config.get(setting);
        format!("{} {}", value.text.as_deref().unwrap_or("-"), value.source)
    };
    assert_eq!(shown(Setting::Root), "flag flag --root");
    assert_eq!(shown(Setting::HttpAddr), "127.0.0.1:3 environment SIRA_HTTP_ADDR");
    assert_eq!(shown(Setting::RespAddr), format!("127.0.0.1:2 {}:3:13", file.path().display()));
    assert_eq!(shown(Setting::Durability), "sync default");
    assert_eq!(shown(Setting::TokenFile), "- default");
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let file = written("durability = \"none\"\n");
    let path = file.path().to_str().unwrap();
    let config = resolve(&Flags::default(), None, &[("SIRA_CONFIG", path)]).unwrap();
    assert_eq!(config.text(Setting::Durability), "none");
}

#[test]
fn a_wrong_value_names_its_source() {
    let env = [("SIRA_HTTP_ADDR", "localhost")];
    let failure = resolve(&Flags::default(), None, &env).unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(
        failure.message.starts_with(
            "http_addr = \"localhost\" (environment SIRA_HTTP_ADDR): write an IP address"
        ),
        "{}",
        failure.message
    );
    let failure = resolve(&Flags::default(), None, &[("SIRA_TOKEN", "geheim nis")]).unwrap_err();
    assert!(!failure.message.contains("geheim"), "{}", failure.message);
}

#[test]
fn servers() {
    let check = Setting::Server.spec().check;
    for right in ["http://127.0.0.1:9095", "http://host", "http://[::1]:9095/"] {
        assert_eq!(check(right), Ok(()), "{right}");
    }
    for wrong in ["", "host:1", "https://host", "http://", "http://a/b", "http://u@h", "ftp://a"] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_token_comes_from_the_environment_or_a_file() {
    let file = written("from-file\nsecond line\n");
    let path = file.path().to_str().unwrap();
    let token = |flags: &Flags, env: &[(&str, &str)]| {
        resolve(flags, None, env).and_then(|config| config.token())
    };
    let none = Flags::default();
    let mut flag = Flags::default();
    flag.set(Setting::TokenFile, Some(path));
    assert_eq!(token(&none, &[]), Ok(None));
    assert_eq!(token(&none, &[("SIRA_TOKEN_FILE", path)]), Ok(Some("from-file".into())));
    let both = [("SIRA_TOKEN", "direct"), ("SIRA_TOKEN_FILE", path)];
    assert_eq!(token(&none, &both), Ok(Some("direct".into())));
    assert_eq!(token(&flag, &both), Ok(Some("from-file".into())));
    let empty = written("\n");
    let env = [("SIRA_TOKEN_FILE", empty.path().to_str().unwrap())];
    assert_eq!(token(&none, &env).map_err(|f| f.exit), Err(Exit::Usage));
}

#[test]
fn the_example_file_is_the_defaults() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sira.toml");
    let example = std::fs::read_to_string(&docs).unwrap();
    assert_eq!(example, render_example(), "write it again: sira config example > docs/sira.toml");
    let from_file = resolve(&Flags::default(), Some(&docs), &[]).unwrap();
    let defaults = resolve(&Flags::default(), None, &[]).unwrap();
    for spec in SETTINGS {
        assert_eq!(from_file.get(spec.setting).text, defaults.get(spec.setting).text);
    }
    assert_eq!(check_file(&docs), Ok(Vec::new()));
}
