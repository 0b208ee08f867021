use sira_store::env::SimEnv;

use super::*;

#[test]
fn failures_are_told_once_a_minute() {
    let env = Arc::new(SimEnv::new(1, 0));
    let reporter = Reporter::new(env.clone());
    assert!(reporter.may_tell() && !reporter.clone().may_tell());
    env.advance_ms(59_999);
    assert!(!reporter.may_tell());
    env.advance_ms(1);
    assert!(reporter.may_tell() && !reporter.may_tell());
}
