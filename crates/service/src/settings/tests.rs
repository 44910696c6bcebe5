use super::*;

#[test]
fn every_mistake_is_named_at_once() {
    let source = Source::from_iter([("PORT", "eighty"), ("SECRET", "short")]);
    let mut reader = Reader::new(&source);
    let port: Option<u16> = reader.required("PORT");
    let brokers: Option<String> = reader.required("KAFKA_BROKERS");
    let secret = reader.secret("SECRET", 16);
    let SettingsError(errors) = reader
        .finish(port.zip(brokers).zip(secret))
        .expect_err("three mistakes");
    assert_eq!(errors.len(), 3, "{errors:?}");
    for name in ["PORT", "KAFKA_BROKERS", "SECRET"] {
        assert!(
            errors.iter().any(|e| e.starts_with(name)),
            "{name}: {errors:?}"
        );
    }
}

#[test]
fn a_secret_may_come_from_a_file_and_is_not_printed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
    let source = Source::from_iter([("TOKEN_SECRET_FILE", file.path().to_str().unwrap())]);
    let mut reader = Reader::new(&source);
    let secret = reader.secret("TOKEN_SECRET", 16).unwrap();
    assert_eq!(secret.expose(), "0123456789abcdef");
    assert!(!format!("{secret:?}").contains("0123"));
}

#[test]
fn where_settings_come_from_is_printed_without_their_values() {
    let source = Source::from_iter([("REDIS_URL", "redis://:hunter2@a")]);
    let reader = Reader::new(&source);
    for printed in [format!("{source:?}"), format!("{reader:?}")] {
        assert!(printed.contains("REDIS_URL"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn mistakes_in_the_file_are_named_with_those_in_the_settings() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "# comment\nPORT=eighty\nnonsense\nmore\n").unwrap();
    let source = Source::from_file(file.path());
    let mut reader = Reader::new(&source);
    let port: Option<u16> = reader.required("PORT");
    let SettingsError(errors) = reader.finish(port).expect_err("three mistakes");
    assert_eq!(errors.len(), 3, "{errors:?}");
    for named in ["line 3", "line 4", "PORT"] {
        assert!(errors.iter().any(|e| e.contains(named)), "{errors:?}");
    }
    let nowhere = Source::from_file(Path::new("/nowhere"));
    let error = Reader::new(&nowhere).finish(Some(())).expect_err("no file");
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[test]
fn a_value_that_is_not_utf8_is_a_mistake_where_it_is_read() {
    use std::os::unix::ffi::OsStringExt;
    let garbage = || OsString::from_vec(vec![0x66, 0xff]);
    let source = Source::from_iter([("PORT", garbage()), ("NOT_OURS", garbage())]);
    let mut reader = Reader::new(&source);
    assert_eq!(reader.or("PORT", 80), None);
    let SettingsError(errors) = reader.finish(Some(())).expect_err("one mistake");
    assert_eq!(errors, ["PORT is not UTF-8"]);
}

#[test]
fn what_a_check_refuses_is_named() {
    let source = Source::from_iter([("PORT", "80")]);
    let mut reader = Reader::new(&source);
    let port: Option<u16> = reader.required("PORT");
    let port = reader.accept("PORT", port, |port| {
        if *port > 1_024 {
            Ok(())
        } else {
            Err("it is root's")
        }
    });
    let SettingsError(errors) = reader.finish(port).expect_err("one mistake");
    assert_eq!(errors, ["PORT cannot be used: it is root's"]);
}

#[test]
fn what_was_read_is_told_with_where_it_came_from() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "PORT=80\nTOKEN=hunter2hunter2\n").unwrap();
    let source = Source::from_file(file.path());
    let mut reader = Reader::new(&source);
    assert_eq!(reader.or("PORT", 1), Some(80));
    assert_eq!(reader.or("MAX", 7), Some(7));
    assert!(reader.secret("TOKEN", 3).is_some());
    let told: Vec<String> = source
        .effective()
        .iter()
        .map(|one| format!("{}={} {}", one.name, one.value, one.origin))
        .collect();
    let path = file.path().display();
    let port = format!("PORT=80 {path}");
    let token = format!("TOKEN=(redacted) {path}");
    assert_eq!(told, ["MAX=7 default", &port, &token]);
}

#[test]
fn defaults_fill_what_is_missing_or_empty() {
    let source = Source::from_iter([("EMPTY", ""), ("EMPTY_FILE", "")]);
    let mut reader = Reader::new(&source);
    assert_eq!(reader.or("EMPTY", 5), Some(5));
    assert_eq!(reader.optional::<u16>("MISSING"), Some(None));
    assert!(reader.finish(Some(())).is_ok());
}
