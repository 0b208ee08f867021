use super::*;

#[test]
fn every_kind_of_error_has_its_exit_code() {
    let cases: [(StorageError, u8); 10] = [
        (StorageError::invalid_input("x"), 2),
        (StorageError::not_found("x"), 3),
        (StorageError::precondition_failed("x"), 4),
        (StorageError::locked("x"), 4),
        (StorageError::unavailable("x"), 5),
        (StorageError::out_of_space("x"), 5),
        (StorageError::permission_denied("x"), 6),
        (StorageError::corrupt("x"), 7),
        (StorageError::read_only("x"), 7),
        (StorageError::io("x"), 1),
    ];
    for (error, exit) in cases {
        let code = error.code();
        let failure = Failure::from(error);
        assert_eq!((failure.exit.code(), failure.code.as_str()), (exit, code));
    }
}

#[test]
fn help_lists_every_code() {
    use Exit::*;
    for exit in
        [Ok, Other, Usage, NotFound, Conflict, Retryable, Auth, Fatal, Interrupted, Terminated]
    {
        let line = format!("{:>5}  ", exit.code());
        assert!(Exit::HELP.contains(&line), "{exit:?}");
    }
}

#[test]
fn operating_system_errors_read_as_plain_text() {
    let failure = Failure::io("cannot read a.txt", &io::Error::from_raw_os_error(2));
    assert_eq!(failure.message, "cannot read a.txt: No such file or directory");
    assert_eq!(failure.exit, Exit::NotFound);
}
