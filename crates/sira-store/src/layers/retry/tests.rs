use super::*;
use crate::backend::BatchResult::{Error, Success, Value};
use crate::env::SimEnv;

fn put(condition: Condition) -> BatchOperation {
    let options = StorageOptions { condition, ..StorageOptions::default() };
    BatchOperation::Put { key: "key".into(), value: Bytes::new(), options }
}

fn get() -> BatchOperation {
    BatchOperation::Get { key: "key".into() }
}

fn delete() -> BatchOperation {
    BatchOperation::Delete { key: "key".into() }
}

#[test]
fn batches_are_repeated_only_where_nothing_can_happen_twice() {
    let temporary = || StorageError::unavailable("down");
    let ambiguous = || StorageError::timeout("late");
    let (always, absent) = (put(Condition::Always), put(Condition::IfAbsent));
    let whole = |operations: &[BatchOperation], error| repeats(operations, &Err(error));
    assert!(whole(&[always.clone(), get()], ambiguous()));
    assert!(!whole(&[always.clone(), absent.clone()], ambiguous()));
    assert!(!whole(&[delete()], ambiguous()));
    assert!(whole(&[absent.clone(), delete()], temporary()));
    assert!(!whole(std::slice::from_ref(&always), StorageError::too_large("much")));
    assert!(!whole(std::slice::from_ref(&always), StorageError::out_of_space("full")));

    let each = |operations: &[BatchOperation], results| repeats(operations, &Ok(results));
    let done = || Success { version: None };
    assert!(!each(&[always.clone(), delete()], vec![done(), Error(temporary())]));
    assert!(each(&[absent.clone(), delete()], vec![Error(temporary()), Error(temporary())]));
    assert!(!each(&[absent.clone(), delete()], vec![Error(temporary()), Error(ambiguous())]));
    assert!(each(&[always.clone(), get()], vec![Error(ambiguous()), Value(None)]));
    assert!(!each(&[always], vec![Error(StorageError::precondition_failed("no"))]));
    assert!(!each(&[get()], vec![Value(None)]));
    assert!(!each(&[], vec![]));
}

#[test]
fn pauses_are_random_grow_and_have_a_bound() {
    let retries = Retries::new(RetryOptions::default(), Arc::new(SimEnv::new(1, 0)));
    let longest = |made: u32| {
        (0..1000).map(|_| attempts::pause(&retries, made)).max().unwrap_or_default().as_millis()
    };
    assert!((15..20).contains(&longest(1)), "{}", longest(1));
    assert!((30..40).contains(&longest(2)));
    assert!((1900..2000).contains(&longest(30)), "{}", longest(30));
    let shortest = (0..1000).map(|_| attempts::pause(&retries, 30)).min().unwrap_or_default();
    assert!(shortest < Duration::from_millis(50), "the pause begins at zero");
}
