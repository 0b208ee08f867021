//! Addresses of servers.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::{Deserialize, Deserializer, Error};

/// What stands as it is in the user, the password and the database of a URL.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Parameters that hold secrets.
const SECRET_PARAMETERS: &[&str] = &["pass=", "passwd=", "password=", "pwd=", "sig=", "token"];

/// A URL that holds no password: it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// A URL that is made of parts, none of which is a password.
    pub(super) fn assembled(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before `://`, if anything.
    pub(super) fn scheme(&self) -> Option<&str> {
        self.0.split_once("://").map(|(scheme, _)| scheme)
    }

    /// The user that the URL names, as it is written there.
    fn user(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        authority.rsplit_once('@').map(|(user, _)| user)
    }

    /// Whether the URL names a user.
    pub(super) fn has_user(&self) -> bool {
        self.user().is_some_and(|user| !user.is_empty())
    }

    /// The URL with a user, unless it names one, and a password.
    pub(super) fn with_login(&self, user: Option<&str>, password: Option<&str>) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let (user, rest) = match self.user() {
            Some(named) => (named.to_owned(), rest.get(named.len() + 1..).unwrap_or_default()),
            None => (user.map(encoded).unwrap_or_default(), rest),
        };
        match (user.is_empty(), password) {
            (true, None) => format!("{scheme}://{rest}"),
            (false, None) => format!("{scheme}://{user}@{rest}"),
            (_, Some(password)) => format!("{scheme}://{user}:{}@{rest}", encoded(password)),
        }
    }
}

/// Text for a part of a URL.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

/// `host:port`, with the brackets that an address of IPv6 needs. A path of a socket is encoded.
pub(super) fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else if host.starts_with('/') {
        format!("{}:{port}", encoded(host))
    } else {
        format!("{host}:{port}")
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    /// Refuses a URL that holds a password, without showing it.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
        // Up to the last `@`: a password may hold an `@` or a `/` that should have been encoded.
        let login = rest.rsplit_once('@').map(|(login, _)| login);
        let lower = rest.to_ascii_lowercase();
        if login.is_some_and(|login| login.contains(':'))
            || SECRET_PARAMETERS.iter().any(|name| lower.contains(name))
        {
            return Err(
                "a URL in a file holds no password: leave it out, and name the variable of \
                        the environment that holds it with password_env = \"NAME\", or its file \
                        with password_file = \"/run/secrets/NAME\""
                    .to_owned(),
            );
        }
        if text.is_empty() || text.contains(char::is_whitespace) {
            return Err("an address has no spaces and is not empty".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for ServerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
