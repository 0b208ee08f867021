use super::*;

#[test]
fn secrets_are_never_printed() {
    let config = ServerConfig { token: Some(Secret::new("hunter2")), ..Default::default() };
    assert!(!format!("{config:?} {}", Secret::new("hunter2")).contains("hunter2"));
    assert_eq!(config.token.as_ref().map(Secret::expose), Some("hunter2"));
}

#[test]
fn an_exposed_address_needs_a_token_and_the_error_says_so() {
    let exposed: SocketAddr = "0.0.0.0:9095".parse().unwrap();
    for (http, resp) in [(true, false), (false, true)] {
        let mut config = ServerConfig::default();
        if http {
            config.http_addr = exposed;
        }
        if resp {
            config.resp_addr = exposed;
        }
        let error = config.check().unwrap_err();
        assert!(matches!(error, ServerError::Exposed { .. }));
        assert!(error.to_string().contains("SIRA_TOKEN="), "{error}");
        config.token = Some(Secret::new("t"));
        config.check().unwrap();
    }
    for loopback in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let config =
            ServerConfig { http_addr: loopback.parse().unwrap(), ..ServerConfig::default() };
        config.check().unwrap();
    }
}

#[test]
fn tokens_that_http_cannot_carry_are_refused() {
    for token in ["", "two words", "new\nline", "größe", &"x".repeat(1025)] {
        let config = ServerConfig { token: Some(Secret::new(token)), ..Default::default() };
        assert!(config.check().is_err(), "{token:?}");
    }
}

#[test]
fn log_formats_round_trip() {
    for format in [LogFormat::Text, LogFormat::Json] {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    assert!("xml".parse::<LogFormat>().unwrap_err().contains("text"));
}
