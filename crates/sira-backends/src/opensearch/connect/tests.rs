use super::*;

fn header(options: &OpenSearchOptions) -> (String, Option<String>) {
    let (url, header) = options.address().unwrap();
    (url.to_string(), header.map(|header| header.to_str().unwrap().to_owned()))
}

#[test]
fn credentials_are_taken_out_of_the_address() {
    let options = OpenSearchOptions::new("https://us%40er:p%3Ass@host:9200/under?x=1");
    let basic = Some(format!("Basic {}", STANDARD.encode("us@er:p:ss")));
    assert_eq!(header(&options), ("https://host:9200/under/".to_owned(), basic));

    let mut options = OpenSearchOptions::new("http://host");
    assert_eq!(header(&options), ("http://host/".to_owned(), None));
    options.user = Some("user".to_owned());
    options.password = Some("word".to_owned());
    let basic = format!("Basic {}", STANDARD.encode("user:word"));
    assert_eq!(header(&options).1, Some(basic));
    options.api_key = Some("a2V5".to_owned());
    assert_eq!(header(&options).1.as_deref(), Some("ApiKey a2V5"));
    let shown = format!("{options:?}");
    assert!(!shown.contains("word") && !shown.contains("a2V5"), "{shown}");
}

#[test]
fn addresses_that_cannot_be_right_are_refused_without_quoting_them() {
    for url in ["", "host:9200", "ftp://a:s3cret@host", "http://a:s3cret@host:port"] {
        let error = OpenSearchOptions::new(url).address().unwrap_err();
        assert_eq!(error.code(), "invalid_input");
        assert!(!format!("{error:?}").contains("s3cret"));
    }
    let named = |index: &str| {
        let options = OpenSearchOptions { index: index.into(), ..OpenSearchOptions::new("") };
        options.check().is_ok()
    };
    assert!(named("a-1_b"));
    assert!(["", "A", "_a", "a/b", "a,b", "*"].iter().all(|index| !named(index)));
}
