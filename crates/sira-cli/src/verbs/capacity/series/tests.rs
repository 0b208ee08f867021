use super::*;

fn plain(text: &str) -> Result<Vec<Option<f64>>, String> {
    parse(text, Selection::default())
}

#[test]
fn csv_has_a_header_or_none_and_gaps() {
    assert_eq!(plain("1\n2\n\n3.5\n"), Ok(vec![Some(1.0), Some(2.0), Some(3.5)]));
    assert_eq!(plain("# source\nday,used\n1,10\n2,\n3,NA\n"), Ok(vec![Some(10.0), None, None]));
    let named = Selection { column: Some("day"), ..Selection::default() };
    assert_eq!(parse("day;used\n1;10\n2;20\n", named), Ok(vec![Some(1.0), Some(2.0)]));
    let second = Selection { column: Some("2"), ..Selection::default() };
    assert_eq!(parse("1,10,5\n2,20,5\n", second), Ok(vec![Some(10.0), Some(20.0)]));
    assert_eq!(plain("used\n7\n"), Ok(vec![Some(7.0)]));
    assert_eq!(plain("1\ninf\n"), Err("line 2: \"inf\" is no number".to_owned()));
    let missing = Selection { column: Some("size"), ..Selection::default() };
    assert_eq!(
        parse("day,used\n1,10\n", missing),
        Err("line 2: there is no column \"size\"".to_owned())
    );
}

#[test]
fn json_lines_are_numbers_or_objects() {
    assert_eq!(plain("1\nnull\n3\n"), Ok(vec![Some(1.0), None, Some(3.0)]));
    assert_eq!(plain("{\"value\": 1}\n{\"value\": null}\n"), Ok(vec![Some(1.0), None]));
    assert!(plain("{\"size\": 1}\n").unwrap_err().contains("--column"));
    assert!(plain("{\"value\": \"x\"}\n").is_err());
    assert!(plain("{\n").is_err());
}

#[test]
fn events_are_counted_or_added_up() {
    let text = "{\"t\": 5, \"n\": 2}\n{\"t\": 12, \"n\": 3}\n{\"t\": 13, \"n\": 4}\n{\"t\": 41, \"n\": 1}\n";
    let counted = Selection { column: None, events: Some(("t", 10.0)) };
    let expected = [1.0, 2.0, 0.0, 0.0, 1.0].map(Some).to_vec();
    assert_eq!(parse(text, counted), Ok(expected));
    let added = Selection { column: Some("n"), ..counted };
    assert_eq!(parse(text, added), Ok([2.0, 7.0, 0.0, 0.0, 1.0].map(Some).to_vec()));
    assert!(parse(text, Selection { events: Some(("t", 0.0)), ..counted }).is_err());
    assert!(parse("{\"t\": 0}\n{\"t\": 1e15}\n", counted).is_err());
}
