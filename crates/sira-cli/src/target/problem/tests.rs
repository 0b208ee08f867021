use super::*;

#[test]
fn every_code_of_the_store_is_read_back() {
    let samples = [
        StorageError::invalid_input("m"),
        StorageError::too_large("m"),
        StorageError::not_found("m"),
        StorageError::precondition_failed("m"),
        StorageError::conflict("m"),
        StorageError::out_of_space("m"),
        StorageError::corrupt("m"),
        StorageError::read_only("m"),
        StorageError::unsupported("m"),
        StorageError::unavailable("m"),
        StorageError::timeout("m"),
        StorageError::io("m"),
    ];
    for sample in samples {
        let status = if sample.code() == "invalid_input" { 400 } else { 500 };
        let body = format!("{{\"code\":{:?},\"detail\":\"m\"}}", sample.code());
        let error = read(status, body.as_bytes());
        assert_eq!((error.code(), error.detail().message.as_str()), (sample.code(), "m"));
    }
}

#[test]
fn answers_of_others_are_read_by_their_status() {
    for (status, code) in
        [(401, "permission_denied"), (404, "not_found"), (503, "unavailable"), (500, "io")]
    {
        let error = read(status, b"<html>proxy</html>");
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(&status.to_string()));
    }
}
