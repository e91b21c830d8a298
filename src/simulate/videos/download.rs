//! A video's content: bytes that follow from their place.

use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::simulate::body::Events;

/// How long the bytes are before they come again: a prime, so that no power of two hides a shift.
const PERIOD: u64 = 65_521;
const PIECE: u64 = 64 << 10;
/// What a thumbnail or a sprite sheet has.
const PICTURE: u64 = 1_000;

/// A part of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::simulate) struct Download {
    pub(in crate::simulate) status: StatusCode,
    kind: &'static str,
    first: u64,
    /// Behind its last byte.
    end: u64,
    total: u64,
}

impl Download {
    /// What a request wants of a content of `bytes`.
    pub(super) fn of(bytes: u64, head: &Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let variant = query.split('&').find_map(|pair| pair.strip_prefix("variant=")).unwrap_or("video");
        let (kind, total) = match variant {
            "thumbnail" => ("image/webp", PICTURE),
            "spritesheet" => ("image/jpeg", PICTURE),
            _ => ("video/mp4", bytes),
        };
        let range = head.headers.get(RANGE).and_then(|range| range.to_str().ok());
        let (status, first, end) = match range.map(|range| part(range, total)) {
            None => (StatusCode::OK, 0, total),
            Some(Some((first, end))) => (StatusCode::PARTIAL_CONTENT, first, end),
            Some(None) => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
        };
        Self { status, kind, first, end, total }
    }

    pub(in crate::simulate) fn push_headers(&self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.end - self.first));
        let range = match self.status {
            StatusCode::PARTIAL_CONTENT => format!("bytes {}-{}/{}", self.first, self.end - 1, self.total),
            StatusCode::RANGE_NOT_SATISFIABLE => format!("bytes */{}", self.total),
            _ => return,
        };
        if let Ok(range) = HeaderValue::try_from(range) {
            headers.insert(CONTENT_RANGE, range);
        }
    }

    pub(in crate::simulate) fn pieces(&self) -> Events {
        let (end, mut at) = (self.end, self.first);
        Box::new(std::iter::from_fn(move || {
            let length = PIECE.min(end - at);
            let from = usize::try_from(at % PERIOD).unwrap_or_default();
            at += length;
            let length = usize::try_from(length).unwrap_or_default();
            (length > 0).then(|| pattern().slice(from..from + length))
        }))
    }
}

/// The byte at a place of every video.
fn byte_at(place: u64) -> u8 {
    let place = place % PERIOD;
    // The lowest eight bits are what is wanted.
    (place.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0]
}

fn pattern() -> &'static Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    PATTERN.get_or_init(|| (0..PERIOD + PIECE).map(byte_at).collect::<Vec<u8>>().into())
}

/// The first byte of a range and the one behind its last; `None` where nothing of it is there.
fn part(range: &str, total: u64) -> Option<(u64, u64)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, end) = match (first, last) {
        ("", last) => (total.saturating_sub(last.parse().ok()?), total),
        (first, "") => (first.parse().ok()?, total),
        (first, last) => (first.parse().ok()?, last.parse::<u64>().ok()?.saturating_add(1).min(total)),
    };
    (first < end).then_some((first, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_bytes_as_in_the_whole() {
        let download = |range: &str| {
            let request = http::Request::get("/v1/videos/a/content").header(RANGE, range);
            let (head, ()) = request.body(()).expect("a request").into_parts();
            Download::of(200_000, &head)
        };
        let bytes =
            |download: &Download| download.pieces().flat_map(|piece| piece.to_vec()).collect::<Vec<u8>>();
        let whole = bytes(&Download::of(
            200_000,
            &http::Request::get("/").body(()).expect("a request").into_parts().0,
        ));
        assert_eq!(whole.len(), 200_000);
        assert_ne!(whole[..1000], whole[1000..2000]);
        for (range, from, to) in [
            ("bytes=0-0", 0, 1),
            ("bytes=65521-131072", 65_521, 131_073),
            ("bytes=199999-", 199_999, 200_000),
            ("bytes=-7", 199_993, 200_000),
        ] {
            let part = download(range);
            assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
            assert_eq!(bytes(&part), whole[from..to], "{range}");
        }
        assert_eq!(download("bytes=200000-").status, StatusCode::RANGE_NOT_SATISFIABLE);
    }
}
