use super::*;
use proptest::prelude::*;

const TYPE: &str = "multipart/form-data; boundary=XyZ";

fn watched(name: &str) -> bool {
    matches!(name, "model" | "seconds" | "video" | "video[id]")
}

fn read(bytes: &[u8]) -> Result<Vec<Field>, FormError> {
    read_in(&[bytes])
}

fn read_in(pieces: &[&[u8]]) -> Result<Vec<Field>, FormError> {
    let mut form = Form::new(TYPE, watched)?;
    pieces.iter().try_for_each(|piece| form.feed(piece))?;
    form.end()?;
    Ok(form.fields().to_vec())
}

fn text(name: &str, value: &[u8]) -> Field {
    Field { name: name.to_owned(), value: Value::Text(value.to_vec()) }
}

/// A form as the Python SDK sends it.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (head, body) in parts {
        form.extend_from_slice(format!("--XyZ\r\nContent-Disposition: form-data; {head}\r\n\r\n").as_bytes());
        form.extend_from_slice(body);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--XyZ--\r\n");
    form
}

#[test]
fn watched_fields_are_read_and_others_pass() {
    let sent = form(&[
        ("name=\"prompt\"", b"--XyY \r\n--Xy\r\n"),
        ("name=\"model\"", b"sora-2"),
        ("name=seconds", b""),
        ("name=\"video\"; filename=\"a;b.mp4\"\r\nContent-Type: video/mp4", &[0; 5000]),
    ]);
    let file = Field { name: "video".to_owned(), value: Value::File };
    assert_eq!(read(&sent), Ok(vec![text("model", b"sora-2"), text("seconds", b""), file]));
    assert_eq!(read(b"--XyZ--"), Ok(vec![]), "an empty form, without the last end of line");
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let plain = "name=\"model\"";
    for (why, sent) in [
        ("a preamble", [b"x\r\n".to_vec(), form(&[(plain, b"a")])].concat()),
        ("an epilogue", [form(&[(plain, b"a")]), b"x".to_vec()].concat()),
        ("a delimiter behind a bare end of line", form(&[(plain, b"a\n--XyZ\r\nx")])),
        ("a delimiter within a line", form(&[(plain, b"a--XyZ")])),
        ("a delimiter that begins another word", form(&[(plain, b"a\r\n--XyZw\r\n")])),
        ("a delimiter with blanks behind it", form(&[(plain, b"a\r\n--XyZ \r\n")])),
        (
            "a delimiter right behind a head",
            b"--XyZ\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--XyZ--".to_vec(),
        ),
        ("a delimiter in a head", form(&[("name=\"a\"; filename=\"--XyZ\"", b"a")])),
        ("two names", form(&[("name=\"prompt\"; name=\"model\"", b"a")])),
        ("an extended name", form(&[("name=\"prompt\"; name*=UTF-8''model", b"a")])),
        ("an escape", form(&[("name=\"prompt\"; filename=\"a\\\"; name=\\\"model\\\"\"", b"a")])),
        ("a name in other characters", form(&[("name=\"mod%65l\"", b"a")])),
        ("no name", form(&[("filename=\"a\"", b"a")])),
        ("a folded line", form(&[("name=\"prompt\";\r\n name=\"model\"", b"a")])),
        ("two dispositions", form(&[("name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"", b"a")])),
        ("a blank before the colon", form(&[("name=\"a\"\r\nContent-Type : text/plain", b"a")])),
        ("a part in base64", form(&[("name=\"model\"\r\nContent-Transfer-Encoding: base64", b"YQ==")])),
        ("a head without end", [b"--XyZ\r\nA: ".to_vec(), vec![b'a'; HEADERS_MAX]].concat()),
        ("a long value", form(&[(plain, &[b'a'; VALUE_MAX + 1])])),
        ("too many parts", form(&vec![("name=\"a\"", &b"a"[..]); PARTS_MAX + 1])),
        ("no end", b"--XyZ\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\na\r\n".to_vec()),
        ("nothing", Vec::new()),
    ] {
        assert!(read(&sent).is_err(), "{why}: {:?}", read(&sent));
    }
}

#[test]
fn a_boundary_is_named_once_and_plainly() {
    for (kind, found) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b\"", None),
        ("multipart/form-data; boundary=\"a:b\"; charset=utf-8", Some("a:b")),
        (
            "multipart/form-data; boundary=----formdata-undici-012345678901",
            Some("----formdata-undici-012345678901"),
        ),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data", None),
        ("multipart/mixed; boundary=a", None),
        ("application/json; boundary=a", None),
    ] {
        assert_eq!(boundary(kind), found, "{kind}");
    }
    assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))), None);
}

#[test]
fn a_sealed_form_takes_no_watched_field_any_more() {
    let sent = form(&[
        ("name=\"model\"", b"a"),
        ("name=\"file\"; filename=\"f\"", &[7; 300]),
        ("name=\"prompt\"", b"p"),
    ]);
    let late = form(&[("name=\"file\"; filename=\"f\"", &[7; 300]), ("name=\"seconds\"", b"900")]);
    for (sent, outcome) in [(sent, Ok(())), (late, Err(FormError::Late("seconds".to_owned())))] {
        let mut form = Form::new(TYPE, watched).expect("a form");
        form.feed(&sent[..200]).expect("read");
        form.seal().expect("in the middle of a file");
        assert_eq!(form.feed(&sent[200..]), outcome);
    }
    let mut form = Form::new(TYPE, watched).expect("a form");
    form.feed(b"--XyZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nsor").expect("read");
    assert_eq!(form.seal(), Err(FormError::Late("model".to_owned())), "half a value is no value");
}

proptest! {
    /// However the bytes are cut into pieces, the same is read, and the same is refused.
    #[test]
    fn pieces_change_nothing(
        parts in prop::collection::vec(
            (prop::sample::select(vec!["model", "seconds", "video", "prompt", "video[id]", "a b"]), any::<bool>(),
             "(\r\n--Xy|--|\r|\n|X|XyZ|--XyZ|[a-z]){0,6}"), 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let heads: Vec<_> = parts.iter().map(|(name, file, _)| {
            format!("name=\"{name}\"{}", if *file { "; filename=\"f\"" } else { "" })
        }).collect();
        let parts: Vec<_> = heads.iter().zip(&parts).map(|(head, (_, _, body))| (head.as_str(), body.as_bytes())).collect();
        let sent = form(&parts);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(sent.len() + 1)).collect();
        places.extend([0, sent.len()]);
        places.sort_unstable();
        let pieces: Vec<_> = places.windows(2).map(|pair| &sent[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read_in(&pieces), read(&sent));
        let bytes: Vec<_> = sent.chunks(1).collect();
        prop_assert_eq!(read_in(&bytes), read(&sent));
        // Nothing is made up: what is read was sent.
        if let Ok(fields) = read(&sent) {
            let expected = parts.iter().zip(&heads).filter(|((head, _), _)| {
                ["model", "seconds", "video\"", "video[id]"].iter().any(|name| head.starts_with(&format!("name=\"{name}")))
            });
            prop_assert_eq!(fields.len(), expected.count());
        }
    }
}
