//! The example file, made from the table so that it cannot fall behind.

use std::fmt::Write;

use super::settings::SETTINGS;

/// The sections, commented out: settings begin right after the `#`, words with a space.
const SECTIONS: &str =
    concat!(include_str!("example/storage.toml"), include_str!("example/capacity.toml"));

/// The file `docs/sira.toml`: every setting with its default, and the sections commented out.
pub fn render() -> String {
    let mut out = String::from(
        "# Configuration of Sira: every setting with its default.\n\
         #\n\
         # A flag comes before the environment, the environment before this file. Start with\n\
         #     sira serve --config sira.toml\n\
         # and see what holds, and why, with\n\
         #     sira config show --config sira.toml\n",
    );
    for spec in SETTINGS.iter().filter(|spec| !spec.secret) {
        out.push('\n');
        for line in spec.help.lines() {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "# Environment: {}. Flag: {}.", spec.env, spec.flag);
        let _ = match (spec.default, spec.number) {
            (Some(default), true) => writeln!(out, "{} = {default}", spec.key),
            (Some(default), false) => writeln!(out, "{} = {default:?}", spec.key),
            (None, _) => writeln!(out, "# {} = {:?}", spec.key, spec.example),
        };
    }
    out + SECTIONS
}
