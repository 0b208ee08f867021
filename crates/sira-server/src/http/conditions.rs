//! Conditional requests (RFC 9110, section 13).

use http::header::{
    HeaderMap, HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE,
};
use sira_store::{Condition, StorageError, Version};

use crate::limits::HTTP_ENTITY_TAGS_MAX;

/// The entity tag of a version.
#[must_use]
pub fn entity_tag(version: Version) -> String {
    format!("\"{version}\"")
}

/// Time of a version in whole seconds since the Unix epoch, as `Last-Modified` carries it.
#[must_use]
pub const fn modified_seconds(version: Version) -> u64 {
    version.time_ms() / 1000
}

/// One entity tag of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// `None` for a tag that no object of this server has.
    version: Option<Version>,
}

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

impl Tags {
    /// Reads the header field; `None` when the request has none.
    fn read(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, StorageError> {
        let mut found = None;
        for value in headers.get_all(name) {
            let malformed = || {
                StorageError::invalid_input(format!(
                    "{name} is no list of entity tags; write `*` or quoted versions, such as \
                     {name}: \"0190f3c2a1b40000\""
                ))
            };
            let text = value.to_str().map_err(|_| malformed())?.trim();
            if text == "*" && found.is_none() {
                found = Some(Self::Any);
                continue;
            }
            let list = match found.get_or_insert_with(|| Self::List(Vec::new())) {
                Self::List(list) => list,
                Self::Any => return Err(malformed()),
            };
            parse_tags(text, list).ok_or_else(malformed)?;
            if list.len() > HTTP_ENTITY_TAGS_MAX {
                return Err(StorageError::invalid_input(format!(
                    "{name} names more than {HTTP_ENTITY_TAGS_MAX} entity tags"
                )));
            }
        }
        Ok(found)
    }

    /// Whether the current version is among the tags; a weak tag matches only where `weak` allows.
    fn contain(&self, current: Version, weak: bool) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => {
                tags.iter().any(|tag| tag.version == Some(current) && (weak || !tag.weak))
            }
        }
    }
}

fn parse_tags(mut text: &str, into: &mut Vec<Tag>) -> Option<()> {
    let before = into.len();
    loop {
        text = text.trim_start_matches([' ', '\t', ',']);
        if text.is_empty() {
            return (into.len() > before).then_some(());
        }
        let (weak, rest) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (tag, rest) = rest.strip_prefix('"')?.split_once('"')?;
        into.push(Tag { weak, version: tag.parse().ok() });
        text = rest.trim_start_matches([' ', '\t']);
        if !text.is_empty() && !text.starts_with(',') {
            return None;
        }
    }
}

/// A date header in seconds since the Unix epoch; what is no date is ignored, as the standard has
/// it.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    time.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

/// What a read with conditions answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The object.
    Proceed,
    /// 304: the client has it already.
    NotModified,
    /// 412.
    Failed,
}

/// The conditions of a `GET` or `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadConditions {
    matches: Option<Tags>,
    none_match: Option<Tags>,
    modified_since: Option<u64>,
    unmodified_since: Option<u64>,
}

impl ReadConditions {
    /// Reads the header fields.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for malformed entity tags.
    pub fn read(headers: &HeaderMap) -> Result<Self, StorageError> {
        Ok(Self {
            matches: Tags::read(headers, &IF_MATCH)?,
            none_match: Tags::read(headers, &IF_NONE_MATCH)?,
            modified_since: date(headers, &IF_MODIFIED_SINCE),
            unmodified_since: date(headers, &IF_UNMODIFIED_SINCE),
        })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Evaluates them, in the standard's order.
    #[must_use]
    pub fn evaluate(&self, current: Version) -> Verdict {
        match (&self.matches, self.unmodified_since) {
            (Some(tags), _) if !tags.contain(current, false) => return Verdict::Failed,
            (None, Some(since)) if modified_seconds(current) > since => return Verdict::Failed,
            _ => {}
        }
        match (&self.none_match, self.modified_since) {
            (Some(tags), _) if tags.contain(current, true) => Verdict::NotModified,
            (None, Some(since)) if modified_seconds(current) <= since => Verdict::NotModified,
            _ => Verdict::Proceed,
        }
    }
}

/// Whether `If-Range` lets the range count for the current version; without the header it does.
#[must_use]
pub fn range_applies(headers: &HeaderMap, current: Version) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let text = value.to_str().unwrap_or_default().trim();
    if text.starts_with('"') {
        return text == entity_tag(current);
    }
    date(headers, &IF_RANGE) == Some(modified_seconds(current))
}

/// The condition of a `PUT` or `DELETE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteCondition {
    /// One that the engine checks itself.
    Engine(Condition),
    /// The current version is one of these.
    AnyOf(Vec<Version>),
    /// The current version, if there is one, is none of these.
    NoneOf(Vec<Version>),
    /// The object was not modified after this time, in seconds since the Unix epoch.
    UnmodifiedSince(u64),
}

impl WriteCondition {
    /// Reads the header fields.
    ///
    /// # Errors
    /// [`StorageError::InvalidInput`] for malformed entity tags and for `If-Match` together with
    /// `If-None-Match`.
    pub fn read(headers: &HeaderMap) -> Result<Self, StorageError> {
        let strong = |tags: Vec<Tag>| -> Vec<Version> {
            tags.into_iter().filter(|tag| !tag.weak).filter_map(|tag| tag.version).collect()
        };
        let any = |tags: Vec<Tag>| -> Vec<Version> {
            tags.into_iter().filter_map(|tag| tag.version).collect()
        };
        let matches = Tags::read(headers, &IF_MATCH)?;
        let none_match = Tags::read(headers, &IF_NONE_MATCH)?;
        Ok(match (matches, none_match) {
            (Some(_), Some(_)) => {
                return Err(StorageError::invalid_input(
                    "If-Match and If-None-Match exclude each other on a write; send one of them",
                ));
            }
            (Some(Tags::Any), None) => Self::Engine(Condition::IfPresent),
            (None, Some(Tags::Any)) => Self::Engine(Condition::IfAbsent),
            (Some(Tags::List(tags)), None) => match strong(tags).as_slice() {
                [version] => Self::Engine(Condition::IfMatch(*version)),
                versions => Self::AnyOf(versions.to_vec()),
            },
            (None, Some(Tags::List(tags))) => match any(tags).as_slice() {
                [] => Self::Engine(Condition::Always),
                [version] => Self::Engine(Condition::IfNoneMatch(*version)),
                versions => Self::NoneOf(versions.to_vec()),
            },
            (None, None) => match date(headers, &IF_UNMODIFIED_SINCE) {
                Some(since) => Self::UnmodifiedSince(since),
                None => Self::Engine(Condition::Always),
            },
        })
    }

    /// The engine's condition that stands for this one as long as the current version stays what
    /// it is; `None` when it does not hold.
    #[must_use]
    pub fn pin(&self, current: Option<Version>) -> Option<Condition> {
        let holds = match self {
            Self::Engine(condition) => return Some(*condition),
            Self::AnyOf(versions) => current.is_some_and(|current| versions.contains(&current)),
            Self::NoneOf(versions) => current.is_none_or(|current| !versions.contains(&current)),
            Self::UnmodifiedSince(since) => {
                current.is_none_or(|current| modified_seconds(current) <= *since)
            }
        };
        holds.then_some(current.map_or(Condition::IfAbsent, Condition::IfMatch))
    }
}

#[cfg(test)]
mod tests;
