//! Forms: any chunks give the same, and what was understood says the same when it is written again.

use overfall::proxy::demand::video::AskedVideo;
use overfall::proxy::multipart::{Field, Form, FormError, PARTS_MAX, VALUE_MAX, Value};

use super::{Target, came_to, pieces};

const TYPE: &str = "multipart/form-data; boundary=XyZ";

#[test]
fn fuzz_forms() {
    let words = &[
        "--XyZ\r\n",
        "--XyZ--",
        "\r\n--XyZ",
        "\r\n\r\n",
        "Content-Disposition: form-data; name=\"",
        "model",
        "seconds",
        "size",
        "\"; filename=\"a.mp4\"",
        "Content-Type: video/mp4\r\n",
        "\"",
        "characters[0]",
        "filename*=utf-8''a",
        "sora-2",
        "\r",
        "\n",
        "input_reference",
        "--",
        "name=model",
    ];
    Target { name: "multipart", rounds: 10_000, words, check }.run();
}

fn check(input: &[u8]) -> u64 {
    let whole = read(&[input]);
    assert_eq!(read(&pieces(input)), whole, "chunks do not matter");
    let asked = whole.as_ref().map(|fields| {
        assert!(fields.len() <= PARTS_MAX);
        let long = |field: &Field| matches!(&field.value, Value::Text(text) if text.len() > VALUE_MAX);
        assert!(!fields.iter().any(long), "a value is bounded");
        assert_eq!(read(&[&written(fields)]).as_ref(), Ok(fields), "what was understood, written again");
        (fields.len(), AskedVideo::of_form(fields).is_ok())
    });
    came_to(&asked.map_err(ToString::to_string))
}

/// What is understood of a form; the first error, wherever the bytes were cut.
fn read(pieces: &[&[u8]]) -> Result<Vec<Field>, FormError> {
    let mut form = Form::new(TYPE, AskedVideo::is_watched)?;
    pieces.iter().try_for_each(|piece| form.feed(piece))?;
    form.end()?;
    Ok(form.fields().to_vec())
}

fn written(fields: &[Field]) -> Vec<u8> {
    let mut form = Vec::new();
    for field in fields {
        let (file, value) = match &field.value {
            Value::Text(value) => ("", value.as_slice()),
            Value::File => ("; filename=\"x\"", &[][..]),
        };
        let name = &field.name;
        form.extend_from_slice(
            format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n").as_bytes(),
        );
        form.extend_from_slice(value);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--XyZ--\r\n");
    form
}
