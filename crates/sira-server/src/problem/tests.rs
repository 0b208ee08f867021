use super::*;

/// Every kind of the store; the count is checked against its source.
fn kinds() -> Vec<(StorageError, u16)> {
    vec![
        (StorageError::invalid_input("m"), 400),
        (StorageError::too_large("m"), 413),
        (StorageError::not_found("m"), 404),
        (StorageError::precondition_failed("m"), 412),
        (StorageError::conflict("m"), 409),
        (StorageError::out_of_space("m"), 507),
        (StorageError::corrupt("m"), 500),
        (StorageError::read_only("m"), 503),
        (StorageError::unsupported("m"), 501),
        (StorageError::permission_denied("m"), 403),
        (StorageError::locked("m"), 503),
        (StorageError::unavailable("m"), 503),
        (StorageError::timeout("m"), 504),
        (StorageError::io("m"), 500),
    ]
}

#[test]
fn every_kind_has_its_status() {
    for (error, expected) in kinds() {
        assert_eq!(status(&error).as_u16(), expected, "{}", error.code());
    }
    let source = include_str!("../../../sira-store/src/error.rs");
    let (_, table) = source.split_once("\nkinds! {").expect("the table of kinds");
    let (table, _) = table.split_once("\n}").expect("the table's end");
    let listed = table.lines().filter(|line| line.trim_end().ends_with(';')).count();
    assert_eq!(kinds().len(), listed, "a kind is missing in problem::status");
}

#[test]
fn the_document_has_all_members() {
    for (error, expected) in kinds() {
        let code = error.code();
        let again = error.retry() == Retry::Temporary;
        let problem = Problem::from(error);
        let document = problem.document("r-1");
        assert_eq!(document["type"], format!("urn:sira:problem:{code}"));
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert_eq!(document["status"], expected);
        assert_eq!(document["detail"], "m");
        assert_eq!(document["code"], code);
        assert_eq!(document["retryable"], again);
        assert_eq!(document["request_id"], "r-1");
        let headers = problem.header_fields();
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
        assert_eq!(headers.contains_key(RETRY_AFTER), expected == 503);
    }
}

#[test]
fn further_members_and_headers_are_kept() {
    let problem = Problem::bad_request("no")
        .with_member("results", serde_json::json!([1]))
        .with_header(http::header::ALLOW, HeaderValue::from_static("GET"));
    assert_eq!(problem.document("")["results"][0], 1);
    assert_eq!(problem.header_fields()[http::header::ALLOW], "GET");
}
