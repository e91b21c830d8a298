//! Streams cut at every byte, and what the client then makes of them.

use super::*;

const FAILURE: Failure<'static> =
    Failure { kind: "server_error", code: "server_error", message: "The upstream \"cut\" the stream.\n" };

/// What a client of the standard reads: name and data of each event, what stands behind the last blank line dropped.
fn events(stream: &[u8]) -> Vec<(Option<String>, String)> {
    let text = std::str::from_utf8(stream).unwrap().replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (None, Vec::<&str>::new());
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let name = name.take();
                if !data.is_empty() {
                    events.push((name, std::mem::take(&mut data).join("\n")));
                }
            }
            "event" => name = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    assert!(data.is_empty() && name.is_none(), "the last event is not ended: {text}");
    events
}

fn parsed(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
}

fn cuts(stream: &str) -> impl Iterator<Item = (usize, Observer)> {
    let mut observer = Observer::new(Shape::ResponsesSse, StatusCode::OK);
    stream.as_bytes().iter().enumerate().map(move |(index, byte)| {
        observer.feed(&[*byte]);
        (index + 1, observer.clone())
    })
}

#[test]
fn a_responses_stream_cut_anywhere_ends_in_protocol() {
    for line_end in ["\n", "\r\n", "\r"] {
        let stream = responses_stream().replace('\n', line_end);
        let end_of_data = stream.trim_end().len();
        for (cut, observer) in cuts(&stream) {
            let ending = observer.ending(&FAILURE, None);
            let told = observer.end();
            let events = events(&[&stream.as_bytes()[..cut], &ending].concat());
            let shown: Vec<_> = events.iter().map(|(name, data)| (name.as_deref(), parsed(data))).collect();
            let ends = shown
                .iter()
                .filter(|(_, data)| Kind::of(data["type"].as_str().unwrap_or_default()) != Kind::Other);
            let ends = ends.filter(|(_, data)| data["type"] != "response.output_item.done").count();
            assert_eq!(ends, 1, "{cut}: {shown:?}");
            let (name, last) = shown.last().unwrap();
            assert_eq!(*name, last["type"].as_str(), "{cut}");
            if cut >= end_of_data {
                assert_eq!(told.terminal, Some(Terminal::Completed), "{cut}");
                assert_eq!(last["type"], "response.completed", "{cut}");
                continue;
            }
            assert_eq!(told.terminal, None, "{cut}");
            check_failed(last, cut > 200);
            let numbers: Vec<_> =
                shown.iter().filter_map(|(_, data)| data["sequence_number"].as_u64()).collect();
            let (failed, before) = numbers.split_last().unwrap();
            assert_eq!(before.iter().max().map_or(0, |last| last + 1), *failed, "{cut}: {numbers:?}");
        }
    }
}

fn check_failed(event: &Value, id_is_known: bool) {
    assert_eq!(event["type"], "response.failed");
    let response = &event["response"];
    assert_eq!((&response["object"], &response["status"]), (&json!("response"), &json!("failed")));
    assert_eq!(response["error"], json!({"code": FAILURE.code, "message": FAILURE.message}));
    assert_eq!(response["usage"], Value::Null);
    if id_is_known {
        assert_eq!(response["id"], "resp_0a1b");
    }
    let error =
        json!({"code": FAILURE.code, "message": FAILURE.message, "param": null, "type": "server_error"});
    assert_eq!(event["error"], error);
}

#[test]
fn what_passed_before_the_cut_is_counted_and_only_that() {
    let stream = responses_stream();
    let mut before = 0;
    for (cut, observer) in cuts(&stream) {
        let tokens = observer.end().output_seen.tokens();
        assert!(tokens >= before, "{cut}");
        before = tokens;
    }
    let text = "response.output_text.delta\ndata: {\"delta\":\"";
    for length in 0..40 {
        let cut = format!("event: {text}{}", "x".repeat(length));
        assert_eq!(observed(Shape::ResponsesSse, &cut).output_seen.delta_bytes, length as u64);
    }
}

#[test]
fn a_stream_cut_before_anything_passed_still_ends_in_protocol() {
    let observer = Observer::new(Shape::ResponsesSse, StatusCode::OK);
    let events = events(&observer.ending(&FAILURE, None));
    let last = parsed(&events[0].1);
    assert_eq!((events.len(), &last["sequence_number"]), (1, &json!(0)));
    check_failed(&last, false);
}

#[test]
fn data_over_several_lines_is_completed_too() {
    let stream = "event: response.completed\r\ndata: {\"type\":\r\ndata\r\nid: 7\r\ndata:  \"response.completed\",\r\n: x\r\n\
        data:\"sequence_number\":5}\r\n\r\n";
    for (cut, observer) in cuts(stream) {
        let ending = observer.ending(&FAILURE, None);
        let events = events(&[&stream.as_bytes()[..cut], &ending].concat());
        let last = parsed(&events.last().unwrap().1);
        let expected = if cut > stream.len() - 5 { "response.completed" } else { "response.failed" };
        assert_eq!(last["type"], expected, "{cut}");
    }
}

#[test]
fn data_that_is_no_json_is_ended_as_it_is() {
    for (cut, expected) in [("data: hel", "hel"), ("data: {]", "{]"), ("data: [1", "[1")] {
        let ending = observer(Shape::ResponsesSse, cut, 1).ending(&FAILURE, None);
        let events = events(&[cut.as_bytes(), &ending].concat());
        assert_eq!((events.len(), &*events[0].1), (2, expected));
        check_failed(&parsed(&events[1].1), false);
    }
}

#[test]
fn a_chat_stream_cut_anywhere_ends_in_protocol() {
    let stream = chat_stream();
    let done = stream.find("[DONE]").unwrap();
    for cut in 0..=stream.len() {
        let observer = observer(Shape::ChatSse, &stream[..floor(&stream, cut)], 1);
        check_chat_end(
            &stream.as_bytes()[..floor(&stream, cut)],
            &observer.ending(&FAILURE, None),
            cut > done,
        );
        assert_eq!(observer.end().terminal.is_some(), cut > done, "{cut}");
    }
}

#[test]
fn a_filtered_chat_stream_cut_anywhere_ends_in_protocol_without_its_usage_chunk() {
    let stream = chat_stream();
    let done = stream.find("[DONE]").unwrap();
    for cut in 0..=stream.len() {
        let (mut observer, mut filter) =
            (Observer::new(Shape::ChatSse, StatusCode::OK), ChatFilter::default());
        let mut seen = Vec::new();
        for piece in stream.as_bytes()[..cut].chunks(7) {
            observer.feed(piece);
            seen.extend_from_slice(&filter.feed(&bytes::Bytes::copy_from_slice(piece)));
        }
        check_chat_end(&seen, &observer.ending(&FAILURE, Some(&filter)), cut > done);
        assert!(!seen.windows(17).any(|window| window == b"completion_tokens"), "{cut}");
    }
}

fn floor(text: &str, cut: usize) -> usize {
    (0..=cut).rev().find(|at| text.is_char_boundary(*at)).unwrap()
}

fn check_chat_end(seen: &[u8], ending: &[u8], whole: bool) {
    let mut events = events(&[seen, ending].concat());
    let (_, last) = events.pop().unwrap();
    for (_, data) in &events {
        parsed(data);
    }
    if whole {
        assert_eq!(last, "[DONE]");
        return;
    }
    assert_eq!(parsed(&last)["error"]["code"], FAILURE.code);
    assert_eq!(parsed(&last)["error"]["type"], "server_error");
}
