//! The table of settings.

use std::net::SocketAddr;

use crate::path::check_namespace;
use crate::units::parse_durability;

/// A setting. The order is that of [`SETTINGS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Data folder.
    Root,
    /// Address of the HTTP door.
    HttpAddr,
    /// Address of the RESP door.
    RespAddr,
    /// Durability of writes that name none.
    Durability,
    /// Most connections of each door.
    MaxConnections,
    /// Form of the log lines.
    LogFormat,
    /// File that holds the token.
    TokenFile,
    /// The token.
    Token,
    /// Server that the verbs talk to.
    Server,
    /// Namespace of bare keys.
    Namespace,
}

impl Setting {
    /// What the table says about it.
    pub fn spec(self) -> &'static Spec {
        &SETTINGS[self as usize]
    }
}

/// What is known about a setting.
#[derive(Debug)]
pub struct Spec {
    /// Which one.
    pub setting: Setting,
    /// Name in the file.
    pub key: &'static str,
    /// Name in the environment.
    pub env: &'static str,
    /// Flag; empty where there is none.
    pub flag: &'static str,
    /// Default, as text.
    pub default: Option<&'static str>,
    /// Whether the file writes it as a number.
    pub number: bool,
    /// Whether it is never shown, and does not belong in a file.
    pub secret: bool,
    /// What it means, a few lines for the example file.
    pub help: &'static str,
    /// A value to show where there is no default.
    pub example: &'static str,
    /// Says what is wrong with a value.
    pub check: fn(&str) -> Result<(), String>,
}

/// Every setting.
pub const SETTINGS: &[Spec] = &[
    Spec {
        setting: Setting::Root,
        key: "root",
        env: "SIRA_ROOT",
        flag: "--root",
        default: Some("./sira-data"),
        number: false,
        secret: false,
        help: "Folder that holds the data; made if it is not there. One process at a time.",
        example: "",
        check: not_empty,
    },
    Spec {
        setting: Setting::HttpAddr,
        key: "http_addr",
        env: "SIRA_HTTP_ADDR",
        flag: "--http-addr",
        default: Some("127.0.0.1:9095"),
        number: false,
        secret: false,
        help: "Address of the HTTP door; port 0 takes a free one. Addresses beyond loopback need\n\
               a token.",
        example: "",
        check: address,
    },
    Spec {
        setting: Setting::RespAddr,
        key: "resp_addr",
        env: "SIRA_RESP_ADDR",
        flag: "--resp-addr",
        default: Some("127.0.0.1:9096"),
        number: false,
        secret: false,
        help: "Address of the RESP door (redis-cli); port 0 takes a free one.",
        example: "",
        check: address,
    },
    Spec {
        setting: Setting::Durability,
        key: "durability",
        env: "SIRA_DURABILITY",
        flag: "--durability",
        default: Some("sync"),
        number: false,
        secret: false,
        help: "When a write that names no durability is answered:\n\
               sync         after an fsync that covers it; nothing acknowledged is ever lost\n\
               interval:MS  at once, with an fsync within MS milliseconds; a crash of the machine\n\
               \u{20}            can lose that much, a crash of the process loses nothing\n\
               none         at once; the operating system writes back when it likes",
        example: "",
        check: |text| parse_durability(text).map(drop),
    },
    Spec {
        setting: Setting::MaxConnections,
        key: "max_connections",
        env: "SIRA_MAX_CONNECTIONS",
        flag: "--max-connections",
        default: Some("20000"),
        number: true,
        secret: false,
        help: "Most connections of each door; further ones are refused with a clear answer.",
        example: "",
        check: |text| match text.parse::<usize>() {
            Ok(1..) => Ok(()),
            _ => Err("write a number of at least 1".to_owned()),
        },
    },
    Spec {
        setting: Setting::LogFormat,
        key: "log_format",
        env: "SIRA_LOG_FORMAT",
        flag: "--log-format",
        default: Some("text"),
        number: false,
        secret: false,
        help: "Form of the log lines on standard error: text or json.",
        example: "",
        check: |text| match text {
            "text" | "json" => Ok(()),
            _ => Err("write text or json".to_owned()),
        },
    },
    Spec {
        setting: Setting::TokenFile,
        key: "token_file",
        env: "SIRA_TOKEN_FILE",
        flag: "--token-file",
        default: None,
        number: false,
        secret: false,
        help: "File whose first line is the token that clients must present (bearer token over\n\
               HTTP, AUTH over RESP). SIRA_TOKEN gives it directly; it never stands in this file.",
        example: "/run/secrets/sira-token",
        check: not_empty,
    },
    Spec {
        setting: Setting::Token,
        key: "token",
        env: "SIRA_TOKEN",
        flag: "",
        default: None,
        number: false,
        secret: true,
        help: "",
        example: "",
        check: |text| {
            if text.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(())
            } else {
                Err("a token is printable ASCII without spaces".to_owned())
            }
        },
    },
    Spec {
        setting: Setting::Server,
        key: "server",
        env: "SIRA_SERVER",
        flag: "--server",
        default: Some("http://127.0.0.1:9095"),
        number: false,
        secret: false,
        help: "Server that put, get, ls and the other verbs talk to.",
        example: "",
        check: server,
    },
    Spec {
        setting: Setting::Namespace,
        key: "namespace",
        env: "SIRA_NAMESPACE",
        flag: "--namespace",
        default: Some("default"),
        number: false,
        secret: false,
        help: "Namespace of keys that are written without sira://NAMESPACE/.",
        example: "",
        check: |text| check_namespace(text).map_err(|failure| failure.message),
    },
];

fn not_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("give a path".to_owned()) } else { Ok(()) }
}

fn address(text: &str) -> Result<(), String> {
    match text.parse::<SocketAddr>() {
        Ok(_) => Ok(()),
        Err(_) => {
            Err("write an IP address and a port, such as 127.0.0.1:9095 or [::1]:9095".to_owned())
        }
    }
}

fn server(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("http://").unwrap_or_default();
    let host = rest.trim_end_matches('/');
    if text.starts_with("https://") {
        return Err("TLS is the work of a proxy: give the http:// address behind it".to_owned());
    }
    if host.is_empty() || host.contains(['/', '?', '#', ' ', '@']) {
        return Err("write http://HOST:PORT, such as http://127.0.0.1:9095".to_owned());
    }
    Ok(())
}
