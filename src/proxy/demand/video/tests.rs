use super::*;
use crate::proxy::demand::ForeignKind;

fn json(body: &str) -> Result<AskedVideo, Refused> {
    AskedVideo::of_json(body.as_bytes())
}

fn text(name: &str, value: &str) -> Field {
    Field { name: name.to_owned(), value: Value::Text(value.as_bytes().to_vec()) }
}

fn file(name: &str) -> Field {
    Field { name: name.to_owned(), value: Value::File }
}

#[test]
fn json_and_form_ask_for_the_same() {
    let of_json = json(
        r#"{"prompt": "a cat", "model": "sora-2-pro", "seconds": "8", "size": "1280x720",
            "video": {"id": "video_1"}, "characters": [{"id": "char_1"}, {"id": "char_2"}],
            "input_reference": {"image_url": "data:image/png;base64,AA"}, "extra": [1]}"#,
    );
    let of_form = AskedVideo::of_form(&[
        text("model", "sora-2-pro"),
        text("seconds", "8"),
        text("size", "1280x720"),
        text("video[id]", "video_1"),
        text("characters[][id]", "char_1"),
        text("characters[][id]", "char_2"),
        file("input_reference"),
    ]);
    let asked = of_json.expect("JSON");
    assert_eq!(asked, of_form.expect("a form"));
    assert_eq!((asked.seconds, asked.source), (Some(8), Some(Source::Stored("video_1".to_owned()))));
    assert_eq!(json(r#"{"prompt": "a"}"#), Ok(AskedVideo::default()));
    assert_eq!(json(r#"{"seconds": 12, "model": null, "n": 1}"#).expect("a number").seconds, Some(12));
    let uploaded = AskedVideo::of_form(&[file("video")]).expect("a file");
    assert_eq!(uploaded.source, Some(Source::Uploaded));
}

#[test]
fn what_prices_or_names_something_in_an_unknown_way_is_refused() {
    for body in [
        r#"{"seconds": 0}"#,
        r#"{"seconds": "08"}"#,
        r#"{"seconds": 4.5}"#,
        r#"{"seconds": -4}"#,
        r#"{"seconds": 3601}"#,
        r#"{"seconds": "+4"}"#,
        r#"{"seconds": [4]}"#,
        r#"{"size": "720X1280"}"#,
        r#"{"size": "720x1280 "}"#,
        r#"{"size": "0720x1280"}"#,
        r#"{"size": 720}"#,
        r#"{"model": ""}"#,
        r#"{"model": "sora-2 pro"}"#,
        r#"{"model": ["sora-2"]}"#,
        r#"{"model": "a", "model": "b"}"#,
        r#"{"mod\u0065l": "a", "model": "b"}"#,
        r#"{"Model": "a"}"#,
        r#"{"n": 2}"#,
        r#"{"video": "video_1"}"#,
        r#"{"video": {"id": "a", "id": "b"}}"#,
        r#"{"video": {"file_id": "a"}}"#,
        r#"{"characters": {"id": "a"}}"#,
        r#"{"characters": [{"name": "a"}]}"#,
        r#"{"input_reference": {"id": "a"}}"#,
        "[]",
        "{",
        "",
        "{} {}",
    ] {
        assert!(matches!(json(body), Err(Refused::Bad(_))), "{body}: {:?}", json(body));
    }
    for fields in [
        vec![text("model", "a"), text("model", "a")],
        vec![text("Model", "a")],
        vec![text("model[]", "a")],
        vec![text("seconds", "4 ")],
        vec![text("seconds", "")],
        vec![file("seconds")],
        vec![text("n", "2")],
        vec![text("video", "video_1")],
        vec![text("video", "{\"id\": \"video_1\"}")],
        vec![text("video[id]", "a"), file("video")],
        vec![text("video.id", "a")],
        vec![text("characters", "a")],
        vec![text("characters[a][id]", "a")],
        vec![text("input_reference", "file-1")],
        vec![text("_charset_", "utf-16")],
    ] {
        for field in &fields {
            assert!(AskedVideo::is_watched(&field.name), "{field:?}");
        }
        let read = AskedVideo::of_form(&fields);
        assert!(matches!(read, Err(Refused::Bad(_))), "{fields:?}: {read:?}");
    }
    let many: Vec<_> = (0..17).map(|index| text(&format!("characters[{index}][id]"), "a")).collect();
    assert!(AskedVideo::of_form(&many).is_err());
    assert!(json(&format!(r#"{{"characters": [{}]}}"#, vec![r#"{"id": "a"}"#; 17].join(","))).is_err());
}

#[test]
fn files_exist_for_nobody() {
    for refused in [
        json(r#"{"input_reference": {"file_id": "file-1"}}"#),
        AskedVideo::of_form(&[text("input_reference[file_id]", "file-1")]),
    ] {
        assert!(
            matches!(&refused, Err(Refused::Foreign(Foreign { kind: ForeignKind::File, .. }))),
            "{refused:?}"
        );
    }
}

#[test]
fn a_field_of_no_meaning_here_is_not_watched() {
    for name in ["prompt", "name", "models", "videos", "quality", "nn"] {
        assert!(!AskedVideo::is_watched(name), "{name}");
    }
}
