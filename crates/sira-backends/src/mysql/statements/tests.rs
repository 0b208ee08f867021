use sira_store::Version;
use sira_store::driver::Guard;

use super::*;

#[test]
fn every_parameter_of_a_statement_has_a_value() {
    let statements = Statements::new("t");
    let guard =
        Guard { condition: Condition::IfMatch(Version::from_u64(5)), exact: true, now_ms: 9 };
    let target = Target { namespace: b"ns", area: 1, key: b"k", guard };
    let record = Record { version: Version::from_u64(7), size: 3, ..Record::default() };
    let all = statements.puts.iter().chain(&statements.removals);
    for statement in all.chain([&statements.held, &statements.head, &statements.whole]) {
        let marks = statement.text.matches('?').count();
        let values = statement.values(&target, Some((&record, 8)));
        assert_eq!(values.len(), marks, "{}", statement.text);
        assert!(!statement.text.contains(':'), "{}", statement.text);
    }
    let values =
        statements.put(Condition::IfAbsent, false).unwrap().values(&target, Some((&record, 8)));
    let begin = [
        Value::Bytes(b"ns".to_vec()),
        Value::UInt(1),
        Value::Bytes(b"k".to_vec()),
        Value::UInt(8),
        Value::UInt(7),
        Value::NULL,
        Value::UInt(3),
    ];
    assert_eq!(values[..7], begin);
    assert_eq!(values[9..], [Value::UInt(9), Value::UInt(9), Value::UInt(7)]);
}
