use std::io;

use redis::{RedisError, Value, parse_redis_value};
use sira_store::Retry;

use super::{Effect, storage_error};

fn said(line: &str) -> RedisError {
    let value = parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap_or(Value::Nil);
    value.extract_error().unwrap_err()
}

#[track_caller]
fn check(error: RedisError, effect: Effect, code: &str, retry: Retry) {
    let error = storage_error(error, effect);
    assert_eq!((error.code(), error.retry()), (code, retry), "{error}");
}

#[test]
fn answers_of_the_server() {
    for (line, code, retry) in [
        ("-OOM command not allowed", "out_of_space", Retry::Temporary),
        (
            "-ERR Error running script (call to f_1): @user_script:5: OOM command not allowed",
            "out_of_space",
            Retry::Temporary,
        ),
        ("-WRONGTYPE Operation against a key", "corrupt", Retry::Permanent),
        ("-NOAUTH Authentication required.", "permission_denied", Retry::Permanent),
        ("-NOPERM this user has no permissions", "permission_denied", Retry::Permanent),
        ("-LOADING Redis is loading the dataset", "unavailable", Retry::Temporary),
        ("-READONLY You can't write against a replica", "unavailable", Retry::Temporary),
        ("-CLUSTERDOWN The cluster is down", "unavailable", Retry::Temporary),
        ("-MOVED 3999 127.0.0.1:6381", "unavailable", Retry::Temporary),
        ("-ASK 3999 127.0.0.1:6381", "unavailable", Retry::Temporary),
        ("-TRYAGAIN Multiple keys request", "unavailable", Retry::Temporary),
        ("-MISCONF Redis is configured to save", "unavailable", Retry::Temporary),
        ("-ERR max number of clients reached", "unavailable", Retry::Temporary),
        ("-ERR unknown command 'EVALSHA'", "unsupported", Retry::Permanent),
        ("-ERR value is out of range", "io", Retry::Permanent),
    ] {
        check(said(line), Effect::Write, code, retry);
    }
}

#[test]
fn a_lost_answer_is_ambiguous_for_writes_only() {
    let lost = || RedisError::from(io::Error::from(io::ErrorKind::BrokenPipe));
    check(lost(), Effect::Write, "unavailable", Retry::Ambiguous);
    check(lost(), Effect::Read, "unavailable", Retry::Temporary);
    let late = || RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
    check(late(), Effect::Write, "timeout", Retry::Ambiguous);
    check(late(), Effect::Read, "timeout", Retry::Temporary);
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    check(refused.into(), Effect::Write, "unavailable", Retry::Temporary);
}
