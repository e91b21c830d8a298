use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Id,
    Count,
    Inner,
    Deep,
    Length,
    Object,
}

static ROOT: Member<Field> = Member::path(
    "",
    &[
        Member::value("id", Field::Id),
        Member::value("count", Field::Count),
        Member::length("length", Field::Length),
        Member::container(
            "object",
            Field::Object,
            &[
                Member::value("inner", Field::Inner),
                Member::path("more", &[Member::value("deep", Field::Deep)]),
            ],
        ),
    ],
);

#[derive(Debug, Default, PartialEq)]
struct Told {
    values: BTreeMap<Field, Vec<String>>,
    length: usize,
    containers: Vec<Container>,
}

impl Sink<Field> for Told {
    fn container(&mut self, _: Field, container: Container) {
        self.containers.push(container);
    }
    fn text(&mut self, field: Field, text: &str) {
        self.values.entry(field).or_default().push(text.into());
    }
    fn number(&mut self, field: Field, digits: &str) {
        self.values.entry(field).or_default().push(digits.into());
    }
    fn length(&mut self, _: Field, bytes: usize) {
        self.length += bytes;
    }
}

/// What the scanner tells of `text`, fed `piece` bytes at a time.
fn scan(text: &[u8], piece: usize) -> (Told, Scanner<Field>) {
    let mut told = Told::default();
    let mut scanner = Scanner::new(&ROOT);
    for chunk in text.chunks(piece) {
        scanner.feed(chunk, &mut told);
    }
    (told, scanner)
}

/// What a tree of the same text says.
fn expected(value: &Value, member: &Member<Field>, told: &mut Told) {
    let mut tell = |field, text: String| told.values.entry(field).or_default().push(text);
    match (value, member.want) {
        (Value::Array(elements), want) => {
            if let Want::Value(_) = want {
                told.containers.push(Container::Array);
            }
            for element in elements {
                expected(element, member, told);
            }
        }
        (Value::Object(members), want) => {
            if let Want::Value(_) = want {
                told.containers.push(Container::Object);
            }
            for (key, value) in members {
                if let Some(member) = member.members.iter().find(|member| member.key == key) {
                    expected(value, member, told);
                }
            }
        }
        (Value::String(text), Want::Value(field)) => tell(field, text.clone()),
        (Value::Number(number), Want::Value(field)) => tell(field, number.to_string()),
        (Value::String(text), Want::Length(_)) => told.length += text.len(),
        _ => {}
    }
}

const AWKWARD: &str = r#" {"id" : "a\"b\\c\/\u00e9\ud83d\ude00\n", "count":-1.5e+10,"skip":[[],{},"]}",{"a":[tru]}],
  "length":"\u00e9\ud83d\ude00xé😀\t","object":{"more":[{"deep":1},{"deep":[2,"3"]}],"inner":null,"inner":true},
  "é😀ࠀ\ud83d\ude00\u0041":false,"t":"ࠀ퟿😀","\"":{} , "id":"" }"#;

fn awkward() -> String {
    AWKWARD.replace("tru]", "true]")
}

#[test]
fn wanted_members_are_told_and_the_rest_is_skipped() {
    let (told, scanner) = scan(awkward().as_bytes(), usize::MAX);
    assert_eq!(scanner.progress(), Progress::Complete);
    assert_eq!(told.values[&Field::Id], ["a\"b\\c/é😀\n", ""]);
    assert_eq!(told.values[&Field::Count], ["-1.5e+10"]);
    assert_eq!(told.values[&Field::Deep], ["1", "2", "3"]);
    assert_eq!(told.values.get(&Field::Inner), None);
    assert_eq!(told.length, "é😀xé😀\t".len());
}

#[test]
fn every_chunking_tells_the_same() {
    let text = awkward();
    let whole = scan(text.as_bytes(), usize::MAX).0;
    for piece in 1..text.len() {
        assert_eq!(scan(text.as_bytes(), piece).0, whole, "{piece}");
    }
}

#[test]
fn a_text_cut_anywhere_is_completed() {
    let text = awkward();
    for cut in 0..=text.len() {
        for piece in [1, 2, 3, usize::MAX] {
            let (_, scanner) = scan(&text.as_bytes()[..cut], piece);
            let repaired = [&text.as_bytes()[..cut], &scanner.repair(None)].concat();
            let shown = String::from_utf8_lossy(&repaired);
            assert!(serde_json::from_slice::<Value>(&repaired).is_ok(), "{cut}: {shown}");
        }
    }
}

#[test]
fn a_member_can_be_added_to_what_was_cut() {
    for (cut, expected) in [
        ("{", r#"{"a":1}"#),
        (r#"{"x":[{"#, r#"{"x":[{}],"a":1}"#),
        (r#"{"x":{"y":2,"#, r#"{"x":{"y":2,"":null},"a":1}"#),
        (r#"{"x"#, r#"{"x~":null,"a":1}"#),
        (r#"{"x":{}"#, r#"{"x":{},"a":1}"#),
        ("[1", "[1]"),
        (r#"{"x":1}"#, r#"{"x":1}"#),
    ] {
        let repair = scan(cut.as_bytes(), usize::MAX).1.repair(Some(r#""a":1"#));
        assert_eq!(format!("{cut}{}", String::from_utf8(repair).unwrap()), expected);
    }
}

#[test]
fn what_is_no_json_breaks_the_scanner_until_it_is_reset() {
    for text in [
        "hello",
        "{1:2}",
        "{\"a\" 1}",
        "[1 2]",
        "[1}",
        "{\"a\":1]",
        "{,}",
        "nul!",
        "\"\\x\"",
        "\"\\u12g4\"",
        "]",
    ] {
        let (_, mut scanner) = scan(text.as_bytes(), 1);
        assert_eq!(scanner.progress(), Progress::Broken, "{text}");
        assert!(scanner.repair(None).is_empty());
        scanner.reset();
        let mut told = Told::default();
        scanner.feed(br#"{"id":"x"}"#, &mut told);
        assert_eq!(told.values[&Field::Id], ["x"]);
    }
}

#[test]
fn nesting_is_followed_to_its_bound() {
    let deepest = format!("{}{}", "[{\"a\":".repeat(DEPTH_MAX / 2), "1");
    let (_, scanner) = scan(deepest.as_bytes(), 7);
    assert_eq!(scanner.repair(None), "}]".repeat(DEPTH_MAX / 2).into_bytes());
    let (_, deeper) = scan("[".repeat(DEPTH_MAX + 1).as_bytes(), 7);
    assert_eq!(deeper.progress(), Progress::Broken);
}

#[test]
fn a_wanted_text_beyond_its_bound_is_not_told_and_a_counted_one_has_none() {
    let huge = "x".repeat(TEXT_MAX + 1);
    let text = format!(r#"{{"id":"{huge}","{huge}":1,"length":"{huge}","count":7}}"#);
    let (told, _) = scan(text.as_bytes(), 100);
    assert_eq!(told.values.get(&Field::Id), None);
    assert_eq!(told.length, TEXT_MAX + 1);
    assert_eq!(told.values[&Field::Count], ["7"]);
}

fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z\\\\\"\n\u{0}-\u{1f}é😀]{0,12}", ".{0,8}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        let key = prop_oneof![
            Just("id".to_owned()),
            Just("count".into()),
            Just("length".into()),
            Just("object".into()),
            Just("more".into()),
            Just("inner".into()),
            Just("deep".into()),
            ".{0,6}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The same text with every character outside ASCII as an escape.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if character.is_ascii() {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04X}").unwrap();
            }
        }
    }
    out
}

proptest! {
    #[test]
    fn the_scanner_tells_what_a_parser_finds(value in json(), piece in 1usize..20, escape in any::<bool>()) {
        let value = serde_json::json!({"object": value, "count": 1});
        let text = value.to_string();
        let text = if escape { escaped(&text) } else { text };
        let mut tree = Told::default();
        expected(&value, &ROOT, &mut tree);
        let (told, scanner) = scan(text.as_bytes(), piece);
        prop_assert_eq!(scanner.progress(), Progress::Complete);
        prop_assert_eq!(told, tree);
    }

    #[test]
    fn random_json_cut_anywhere_is_completed(value in json(), cut in any::<prop::sample::Index>(), escape in any::<bool>()) {
        let text = serde_json::json!([value]).to_string();
        let text = if escape { escaped(&text) } else { text };
        let cut = cut.index(text.len() + 1);
        let (_, scanner) = scan(&text.as_bytes()[..cut], 3);
        let repaired = [&text.as_bytes()[..cut], &scanner.repair(None)].concat();
        prop_assert!(serde_json::from_slice::<Value>(&repaired).is_ok(), "{}", String::from_utf8_lossy(&repaired));
    }

    #[test]
    fn any_bytes_at_all_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1usize..9) {
        let (_, scanner) = scan(&bytes, piece);
        let _repair = scanner.repair(Some("\"a\":1"));
    }
}
