use sira_store::Retry;

use super::{Effect, of_status};

#[test]
fn statuses() {
    for (code, said, kind, write) in [
        (1, "Timeout expired", "timeout", Retry::Ambiguous),
        (4, "context deadline exceeded", "timeout", Retry::Ambiguous),
        (3, "etcdserver: authentication failed", "permission_denied", Retry::Permanent),
        (3, "etcdserver: user name is empty", "permission_denied", Retry::Permanent),
        (7, "etcdserver: permission denied", "permission_denied", Retry::Permanent),
        (16, "etcdserver: invalid auth token", "permission_denied", Retry::Permanent),
        (3, "etcdserver: request is too large", "too_large", Retry::Permanent),
        (3, "etcdserver: too many operations in txn request", "too_large", Retry::Permanent),
        (8, "grpc: received message larger than max", "too_large", Retry::Permanent),
        (8, "etcdserver: mvcc: database space exceeded", "out_of_space", Retry::Temporary),
        (8, "etcdserver: too many requests", "unavailable", Retry::Temporary),
        (9, "etcdserver: authentication is not enabled", "invalid_input", Retry::Permanent),
        (14, "etcdserver: no leader", "unavailable", Retry::Temporary),
        (14, "etcdserver: leader changed", "unavailable", Retry::Ambiguous),
        (14, "etcdserver: request timed out", "unavailable", Retry::Ambiguous),
        (13, "stream closed", "io", Retry::Ambiguous),
    ] {
        let error = of_status(code, said, false, Effect::Write);
        assert_eq!((error.code(), error.retry()), (kind, write), "{said}");
        if write == Retry::Ambiguous {
            assert_eq!(of_status(code, said, false, Effect::Read).retry(), Retry::Temporary);
        }
    }
    let unsent = of_status(14, "tcp connect error", true, Effect::Write);
    assert_eq!((unsent.code(), unsent.retry()), ("unavailable", Retry::Temporary));
}
