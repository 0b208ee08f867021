use http::HeaderValue;

use super::*;

fn version(n: u64) -> Version {
    Version::from_u64((1_700_000_000_000 << 16) | n)
}

fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn verdict(fields: &[(HeaderName, &str)], current: Version) -> Verdict {
    ReadConditions::read(&headers(fields)).unwrap().evaluate(current)
}

#[test]
fn reads_follow_the_standards_order() {
    let (one, two) = (version(1), version(2));
    let tag = entity_tag(one);
    let weak = format!("W/{tag}");
    let list = format!("\"other\" , {}, {tag}", entity_tag(two));
    assert_eq!(verdict(&[], one), Verdict::Proceed);
    for value in ["*", &tag, &weak, &list] {
        assert_eq!(verdict(&[(IF_NONE_MATCH, value)], one), Verdict::NotModified, "{value}");
    }
    assert_eq!(verdict(&[(IF_NONE_MATCH, &tag)], two), Verdict::Proceed);
    for value in ["*", &tag, &list] {
        assert_eq!(verdict(&[(IF_MATCH, value)], one), Verdict::Proceed, "{value}");
    }
    assert_eq!(verdict(&[(IF_MATCH, &weak)], one), Verdict::Failed);
    assert_eq!(verdict(&[(IF_MATCH, &tag)], two), Verdict::Failed);
    assert_eq!(verdict(&[(IF_MATCH, &tag), (IF_NONE_MATCH, &tag)], one), Verdict::NotModified);
    assert_eq!(verdict(&[(IF_MATCH, &tag), (IF_NONE_MATCH, "*")], two), Verdict::Failed);
}

#[test]
fn dates_count_only_without_tags() {
    let now = version(0);
    let at = httpdate::fmt_http_date(
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000),
    );
    let before = "Mon, 01 Jan 2001 00:00:00 GMT";
    assert_eq!(verdict(&[(IF_MODIFIED_SINCE, &at)], now), Verdict::NotModified);
    assert_eq!(verdict(&[(IF_MODIFIED_SINCE, before)], now), Verdict::Proceed);
    assert_eq!(verdict(&[(IF_MODIFIED_SINCE, "yesterday")], now), Verdict::Proceed);
    assert_eq!(verdict(&[(IF_UNMODIFIED_SINCE, &at)], now), Verdict::Proceed);
    assert_eq!(verdict(&[(IF_UNMODIFIED_SINCE, before)], now), Verdict::Failed);
    let tag = entity_tag(now);
    let fields = [(IF_UNMODIFIED_SINCE, before), (IF_MATCH, &*tag)];
    assert_eq!(verdict(&fields, now), Verdict::Proceed);
    assert!(range_applies(&headers(&[]), now));
    assert!(range_applies(&headers(&[(IF_RANGE, &tag)]), now));
    assert!(range_applies(&headers(&[(IF_RANGE, &at)]), now));
    assert!(!range_applies(&headers(&[(IF_RANGE, &tag)]), version(1)));
    assert!(!range_applies(&headers(&[(IF_RANGE, before)]), now));
    assert!(!range_applies(&headers(&[(IF_RANGE, &format!("W/{tag}"))]), now));
}

#[test]
fn writes_become_conditions_of_the_engine() {
    let (one, two) = (version(1), version(2));
    let (tag, other) = (entity_tag(one), entity_tag(two));
    let both = format!("{tag}, {other}");
    let read =
        |name: HeaderName, value: &str| WriteCondition::read(&headers(&[(name, value)])).unwrap();
    let engine = WriteCondition::Engine;
    assert_eq!(WriteCondition::read(&headers(&[])).unwrap(), engine(Condition::Always));
    assert_eq!(read(IF_NONE_MATCH, "*"), engine(Condition::IfAbsent));
    assert_eq!(read(IF_MATCH, "*"), engine(Condition::IfPresent));
    assert_eq!(read(IF_MATCH, &tag), engine(Condition::IfMatch(one)));
    assert_eq!(read(IF_NONE_MATCH, &tag), engine(Condition::IfNoneMatch(one)));
    assert_eq!(read(IF_NONE_MATCH, "\"foreign\""), engine(Condition::Always));

    let foreign = read(IF_MATCH, "\"foreign\"");
    assert_eq!((foreign.pin(Some(one)), foreign.pin(None)), (None, None));
    let any = read(IF_MATCH, &both);
    assert_eq!(any.pin(Some(two)), Some(Condition::IfMatch(two)));
    assert_eq!((any.pin(Some(version(3))), any.pin(None)), (None, None));
    let none = read(IF_NONE_MATCH, &both);
    assert_eq!(none.pin(Some(two)), None);
    assert_eq!(none.pin(None), Some(Condition::IfAbsent));
    assert_eq!(none.pin(Some(version(3))), Some(Condition::IfMatch(version(3))));
    let since = read(IF_UNMODIFIED_SINCE, "Mon, 01 Jan 2001 00:00:00 GMT");
    assert_eq!((since.pin(Some(one)), since.pin(None)), (None, Some(Condition::IfAbsent)));
}

#[test]
fn malformed_tags_are_refused() {
    for value in ["", ",", "abc", "\"abc", "\"a\" \"b\"", "w/\"a\"", "*, \"a\"", "\"a\", *"] {
        for name in [IF_MATCH, IF_NONE_MATCH] {
            let headers = headers(&[(name, value)]);
            assert!(ReadConditions::read(&headers).is_err(), "{value:?}");
            assert!(WriteCondition::read(&headers).is_err(), "{value:?}");
        }
    }
    let twice = headers(&[(IF_MATCH, "*"), (IF_MATCH, "\"a\"")]);
    assert!(WriteCondition::read(&twice).is_err());
    let both = headers(&[(IF_MATCH, "*"), (IF_NONE_MATCH, "*")]);
    assert!(WriteCondition::read(&both).is_err());
    let many = vec!["\"a\""; 65].join(",");
    assert!(WriteCondition::read(&headers(&[(IF_MATCH, &many)])).is_err());
    let split = headers(&[(IF_MATCH, "\"a\""), (IF_MATCH, "\"b\"")]);
    assert!(WriteCondition::read(&split).is_ok());
}
