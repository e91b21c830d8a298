//! Decoding a compressed body within a bound, so that a small body cannot become a large one unnoticed.

use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use tokio::sync::Semaphore;

use super::{Body, BodyError, Room};

const STEP_BYTES: usize = 64 << 10;
/// The largest window of zstd that is decoded, as a power of two: what it asks of memory beside the bound.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// What the headers say. `None`: not compressed.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, BodyError> {
        let mut told = headers.get_all(CONTENT_ENCODING).iter();
        let Some(first) = told.next() else { return Ok(None) };
        if told.next().is_some() {
            return Err(BodyError::UnknownEncoding);
        }
        let is = |name: &str| first.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("identity") || is("") => Ok(None),
            () if is("gzip") || is("x-gzip") => Ok(Some(Self::Gzip)),
            () if is("zstd") => Ok(Some(Self::Zstd)),
            () => Err(BodyError::UnknownEncoding),
        }
    }
}

/// What `encoded` says, up to `bytes_max`, in room taken from `semaphore` as it grows.
pub(super) fn decode(
    encoded: &[u8],
    encoding: Encoding,
    bytes_max: usize,
    semaphore: &Arc<Semaphore>,
) -> Result<Body, BodyError> {
    match encoding {
        Encoding::Gzip => read(flate2::read::MultiGzDecoder::new(encoded), bytes_max, semaphore),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(encoded).map_err(BodyError::Malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(BodyError::Malformed)?;
            read(decoder, bytes_max, semaphore)
        }
    }
}

fn read(mut decoder: impl Read, bytes_max: usize, semaphore: &Arc<Semaphore>) -> Result<Body, BodyError> {
    let mut room = Room::default();
    let mut decoded = BytesMut::new();
    let mut step = vec![0; STEP_BYTES];
    loop {
        let count = decoder.read(&mut step).map_err(BodyError::Malformed)?;
        if count == 0 {
            return Ok(Body { bytes: Bytes::from(decoded), room });
        }
        if decoded.len() + count > bytes_max {
            return Err(BodyError::TooLarge { bytes_max });
        }
        room.take(semaphore, decoded.len() + count)?;
        decoded.extend_from_slice(&step[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn room() -> Arc<Semaphore> {
        Arc::new(Semaphore::new(1 << 20))
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).expect("written to memory");
        encoder.finish().expect("written to memory")
    }

    fn both(plain: &[u8]) -> [(Encoding, Vec<u8>); 2] {
        [(Encoding::Gzip, gzip(plain)), (Encoding::Zstd, zstd::encode_all(plain, 1).expect("in memory"))]
    }

    #[test]
    fn what_was_compressed_is_read_back() {
        for plain in [Vec::new(), b"{}".to_vec(), vec![b'a'; 300_000]] {
            for (encoding, encoded) in both(&plain) {
                let body = decode(&encoded, encoding, 300_000, &room()).expect("decoded");
                assert_eq!(body.bytes(), &plain, "{encoding:?}");
            }
        }
    }

    #[test]
    fn a_body_that_grows_past_the_limit_is_refused_before_it_is_whole() {
        for (encoding, encoded) in both(&vec![0; 50_000_000]) {
            assert!(encoded.len() < 1_000_000, "{encoding:?}");
            let room = room();
            let error = decode(&encoded, encoding, 1_000_000, &room).expect_err("refused");
            assert!(matches!(error, BodyError::TooLarge { bytes_max: 1_000_000 }), "{encoding:?}: {error}");
            assert_eq!(room.available_permits(), 1 << 20, "its room is given back");
        }
    }

    #[test]
    fn a_body_that_finds_no_room_is_refused() {
        for (encoding, encoded) in both(&vec![b'x'; 500_000]) {
            let error = decode(&encoded, encoding, 1_000_000, &Arc::new(Semaphore::new(100)));
            assert!(matches!(error, Err(BodyError::NoRoom)), "{encoding:?}");
        }
    }

    #[test]
    fn what_is_not_compressed_as_it_says_is_malformed() {
        for (encoding, encoded) in both(b"some text that is compressed") {
            for broken in [&b"plain"[..], &encoded[..encoded.len() - 1]] {
                let error = decode(broken, encoding, 1000, &room());
                assert!(matches!(error, Err(BodyError::Malformed(_))), "{encoding:?} {error:?}");
            }
        }
    }

    #[test]
    fn encodings_are_told_by_one_header_and_one_word() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, http::HeaderValue::from_static(value));
            }
            Encoding::of(&headers).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(Encoding::Gzip)));
        assert_eq!(of(&["zstd"]), Ok(Some(Encoding::Zstd)));
        for unknown in [&["br"][..], &["gzip, zstd"], &["gzip", "gzip"], &["deflate"]] {
            assert!(of(unknown).is_err(), "{unknown:?}");
        }
    }
}
