use ::mongodb::bson::{doc, rawdoc};

use super::*;

#[test]
fn commands_stay_within_the_limits() {
    let mut commands = Commands::new(Kind::Update);
    let large = rawdoc! { "u": "x".repeat(5 * 1024 * 1024) };
    for index in 0..5 {
        commands.push(&large, index, None);
    }
    let sizes: Vec<usize> = commands.all.iter().map(|command| command.changes.len()).collect();
    assert_eq!(sizes, [2, 2, 1]);

    let mut commands = Commands::new(Kind::Delete);
    let small = rawdoc! { "q": {} };
    for index in 0..=COMMAND_STATEMENTS_MAX {
        commands.push(&small, index, None);
    }
    let sizes: Vec<usize> = commands.all.iter().map(|command| command.changes.len()).collect();
    assert_eq!(sizes, [COMMAND_STATEMENTS_MAX, 1]);
}

#[test]
fn replies_tell_each_change_apart() {
    let changes = [(4, Some(Version::from_u64(7))), (2, None), (0, None), (1, None)];
    let reply = doc! { "ok": 1, "writeErrors": [
        { "index": 1, "code": 11000, "errmsg": "duplicate" },
        { "index": 2, "code": 14031, "errmsg": "full" },
    ] };
    let mut answers: Vec<Answer> = (0..5).map(|_| None).collect();
    file(&reply, &changes, &mut answers);
    assert!(matches!(answers[4], Some(Ok(Some(version))) if version.as_u64() == 7));
    assert!(answers[2].is_none());
    assert!(matches!(&answers[0], Some(Err(StorageError::OutOfSpace(_)))));
    assert!(matches!(answers[1], Some(Ok(None))));

    // Who cannot be told is not told of success.
    let reply = doc! { "writeErrors": [{ "code": 1 }] };
    file(&reply, &changes, &mut answers);
    assert!(answers.iter().flatten().all(Result::is_err));

    let reply = doc! { "writeConcernError": { "code": 64, "errmsg": "waiting timed out" } };
    file(&reply, &changes, &mut answers);
    let ambiguous = |answer: &Result<_>| {
        answer
            .as_ref()
            .is_err_and(|error: &StorageError| error.retry() == sira_store::Retry::Ambiguous)
    };
    assert_eq!(answers.iter().flatten().filter(|answer| ambiguous(answer)).count(), 4);
}
