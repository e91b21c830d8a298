//! Streams of events: any chunks give the same, events are those of the standard, and a cut stream ends in protocol.

use bytes::Bytes;
use http::StatusCode;
use overfall::observe::sse::{Framer, Piece};
use overfall::observe::{ChatFilter, Failure, Observed, Observer, Shape};

use super::{Target, came_to, pieces};

const FAILURE: Failure<'static> = Failure { kind: "server_error", code: "cut", message: "cut" };

#[test]
fn fuzz_streams_of_events() {
    let words = &[
        "data: ",
        "event: ",
        "\n\n",
        "\r\n",
        "\r",
        ": ",
        "\u{feff}",
        "[DONE]",
        "{\"type\":\"",
        "response.completed",
        "response.failed",
        "response.output_text.delta",
        "\"usage\":",
        "\"choices\":[]",
        "\"delta\":\"",
        "null",
        "}",
        "id: 7\n",
        "\"sequence_number\":",
        "\"response\":{",
        "\\u00e9",
        "error",
    ];
    Target { name: "sse", rounds: 6000, words, check }.run();
}

fn check(input: &[u8]) -> u64 {
    assert_eq!(framed(&[input]), events(input), "events of the standard");
    assert_eq!(framed(&pieces(input)), framed(&[input]), "chunks do not matter");
    let told = [Shape::ResponsesSse, Shape::ChatSse].map(|shape| {
        let whole = observe(shape, &[input]);
        let cut = observe(shape, &pieces(input));
        assert_eq!(
            cut.ending(&FAILURE, None),
            whole.ending(&FAILURE, None),
            "chunks do not matter to the ending"
        );
        let told = whole.clone().end();
        assert_eq!(cut.end(), told, "chunks do not matter");
        ends_in_protocol(shape, input, &whole);
        told
    });
    filters(input);
    came_to(&told.map(|told| outline(&told)))
}

fn observe(shape: Shape, pieces: &[&[u8]]) -> Observer {
    let mut observer = Observer::new(shape, StatusCode::OK);
    for piece in pieces {
        observer.feed(piece);
    }
    observer
}

/// With what the gateway adds, whoever reads the stream sees one end.
fn ends_in_protocol(shape: Shape, input: &[u8], observer: &Observer) {
    let ending = observer.ending(&FAILURE, None);
    let whole = observe(shape, &[input, &ending]).end();
    assert!(whole.terminal.is_some(), "no end behind {}", ending.escape_ascii());
}

/// What a client gets that did not ask for usage: what was sent, but for whole events, whatever the chunks.
fn filters(input: &[u8]) {
    let filtered = |pieces: &[&[u8]]| {
        let mut filter = ChatFilter::default();
        let mut out: Vec<u8> = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&filter.feed(&Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&filter.end());
        out
    };
    let whole = filtered(&[input]);
    assert_eq!(filtered(&pieces(input)), whole, "chunks do not matter to the filter");
    let mut rest = whole.iter().peekable();
    for byte in input {
        rest.next_if_eq(&byte);
    }
    assert!(rest.next().is_none(), "the filter adds nothing");
}

/// The data of every event, as the gateway finds them.
fn framed(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut framer, mut data, mut events) = (Framer::default(), Vec::new(), Vec::new());
    for chunk in pieces {
        let mut at = 0;
        while let Some(piece) = framer.next(chunk, &mut at) {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::End => events.push(std::mem::take(&mut data)),
                Piece::Idle => data.clear(),
            }
        }
    }
    events
}

/// The data of every event, by the standard's own words (WHATWG HTML, section 9.2.6).
fn events(stream: &[u8]) -> Vec<Vec<u8>> {
    let mut stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut data, mut events) = (None::<Vec<u8>>, Vec::new());
    while let Some(end) = stream.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, rest) = stream.split_at(end);
        stream = rest.strip_prefix(b"\r\n").unwrap_or(&rest[1..]);
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if line.is_empty() {
            events.extend(data.take());
        } else if field == b"data" {
            match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => data = Some(value.to_vec()),
            }
        }
    }
    events
}

fn outline(told: &Observed) -> impl std::hash::Hash + use<> {
    let ending = told.terminal.map(|terminal| terminal as u8);
    let seen = told.output_seen.tokens().min(3);
    (
        ending,
        told.is_stated,
        told.quantities.is_some(),
        seen,
        told.accepted,
        told.first_event,
        told.resource_id.is_some(),
    )
}
