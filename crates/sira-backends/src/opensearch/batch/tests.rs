use sira_store::driver::{Area, Guard};

use super::*;

fn place() -> Place {
    Place { namespace: "n".into(), area: Area::Objects }
}

fn put(key: &str, condition: Condition, body: usize) -> Change {
    let version = Version::from_u64(5);
    let record = Record { version, body: vec![0; body].into(), ..Record::default() };
    Change::Put { key: key.into(), record, guard: Guard { condition, exact: false, now_ms: 1 } }
}

#[test]
fn requests_stay_within_their_size_and_leave_out_what_needs_a_look() {
    let mut changes = vec![put("a", Condition::IfPresent, 1)];
    changes.extend((0..4).map(|number| put(&format!("{number}"), Condition::Always, 4 << 20)));
    changes.push(Change::Remove { key: "r".into(), guard: Guard::always(1) });
    let bulks = bulks(&place(), &changes);
    let indexes: Vec<Vec<usize>> = bulks
        .iter()
        .map(|bulk| bulk.operations.iter().map(|(index, _)| *index).collect())
        .collect();
    assert_eq!(indexes, [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(bulks[0].body.iter().filter(|byte| **byte == b'\n').count(), 4);
    assert_eq!(bulks[2].body.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn answers_tell_each_change_apart() {
    let version = Some(Version::from_u64(7));
    let operations = [(3, version), (0, version), (1, None), (2, version)];
    let body = json!({ "errors": true, "items": [
        { "index": { "status": 201 } },
        { "create": { "status": 409, "error": { "type": "version_conflict_engine_exception" } } },
        { "delete": { "status": 404, "result": "not_found" } },
        { "index": { "status": 429, "error": { "type": "es_rejected_execution_exception" } } },
    ] });
    let answer = |body: Value| Answer { status: StatusCode::OK, body: body.to_string().into() };
    let mut made: Vec<Made> = (0..4).map(|_| None).collect();
    file(&answer(body), &operations, &mut made);
    assert!(matches!(made[3], Some(Ok(Some(version))) if version.as_u64() == 7));
    assert!(made[0].is_none());
    assert!(matches!(made[1], Some(Ok(None))));
    assert!(matches!(&made[2], Some(Err(StorageError::Unavailable(_)))));

    // An answer about fewer operations says nothing of any.
    file(&answer(json!({ "items": [{ "index": { "status": 201 } }] })), &operations, &mut made);
    assert!(made.iter().flatten().all(Result::is_err));
    assert_eq!(made.iter().flatten().count(), 4);
}
