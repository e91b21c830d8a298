//! API keys: `ofk_`, 40 random characters, and a checksum of 6.
//!
//! The checksum tells a damaged key from an unknown one without a look-up, and lets scanners find keys that leaked
//! without false alarms. 40 characters out of 62 are 238 bits. Only the SHA-256 of a key is ever stored, which is
//! enough for so much randomness: nobody can search it.

use std::fmt;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest, Sha256};

const PREFIX: &str = "ofk_";
const RANDOM_LENGTH: usize = 40;
const CHECKSUM_LENGTH: usize = 6;
const CHECKSUM_AT: usize = PREFIX.len() + RANDOM_LENGTH;
const LENGTH: usize = CHECKSUM_AT + CHECKSUM_LENGTH;
const HINT_LENGTH: usize = PREFIX.len() + 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// An API key with a right checksum. Whether anybody owns it is for the directory to say.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; LENGTH]);

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// There is none at all.
    #[error("no key")]
    Missing,
    /// It begins otherwise: a key of somebody else.
    #[error("not a key of this gateway")]
    Foreign,
    /// It begins as our keys do, and its length, an alphabet or the checksum is wrong.
    #[error("a damaged key")]
    Damaged,
}

impl Key {
    /// The key that 256 random bits make.
    pub fn generate(random: [u8; 32]) -> Self {
        let mut key = [0; LENGTH];
        key[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let mut rest = random;
        for place in &mut key[PREFIX.len()..CHECKSUM_AT] {
            *place = digit(divide(&mut rest));
        }
        let sum = checksum(&key[..CHECKSUM_AT]);
        key[CHECKSUM_AT..].copy_from_slice(&sum);
        Self(key)
    }

    /// Reads a key. Nobody is asked whether it exists.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed::Missing);
        }
        if !text.starts_with(PREFIX) {
            return Err(Malformed::Foreign);
        }
        let key: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| Malformed::Damaged)?;
        // The checksum covers any byte, but a key goes into answers and must be what it seems.
        let legal = key[PREFIX.len()..].iter().all(u8::is_ascii_alphanumeric);
        if legal && checksum(&key[..CHECKSUM_AT]) == key[CHECKSUM_AT..] {
            Ok(Self(key))
        } else {
            Err(Malformed::Damaged)
        }
    }

    /// The key that a request carries as `Authorization: Bearer …`. Two of these headers are none.
    pub fn of_request(headers: &HeaderMap) -> Result<Self, Malformed> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (values.next().ok_or(Malformed::Missing)?, values.next()) else {
            return Err(Malformed::Damaged);
        };
        let text = value.to_str().map_err(|_| Malformed::Foreign)?;
        let (scheme, credentials) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            Self::parse(credentials.trim())
        } else {
            Err(Malformed::Foreign)
        }
    }

    /// SHA-256 of the key: all of it that is ever stored.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// The beginning of the key, so that people can tell keys apart. 202 bits of it stay unknown.
    pub fn hint(&self) -> &str {
        text_of(&self.0[..HINT_LENGTH])
    }

    /// The key itself, to be shown to its owner once.
    pub fn reveal(&self) -> &str {
        text_of(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(***)")
    }
}

/// Divides a big-endian number by 62 and tells the remainder. 2^256 is 2^18 times 62^40, so the digits are uniform
/// but for one part in a quarter of a million.
fn divide(number: &mut [u8; 32]) -> u16 {
    let mut remainder = 0_u16;
    for byte in number {
        let dividend = remainder << 8 | u16::from(*byte);
        *byte = low_byte(dividend / 62);
        remainder = dividend % 62;
    }
    remainder
}

/// `remainder < 62`, so that `(remainder << 8 | byte) / 62 < 256`.
fn low_byte(quotient: u16) -> u8 {
    quotient.to_le_bytes()[0]
}

fn digit(value: u16) -> u8 {
    ALPHABET[usize::from(value) % ALPHABET.len()]
}

/// CRC32C in base 62, most significant digit first.
fn checksum(covered: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32c::crc32c(covered);
    let mut digits = [0; CHECKSUM_LENGTH];
    for place in digits.iter_mut().rev() {
        *place = ALPHABET[usize::try_from(rest % 62).unwrap_or_default()];
        rest /= 62;
    }
    digits
}

/// Keys are ASCII, by construction and by `parse`.
fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_has_the_documented_form() {
        let key = Key::generate([0; 32]);
        assert_eq!(key.reveal(), "ofk_000000000000000000000000000000000000000049wKSO");
        assert_eq!(key.hint(), "ofk_000000");
        assert_eq!(key.hash().as_slice(), Sha256::digest(key.reveal()).as_slice());
    }

    #[test]
    fn text_that_is_no_key_says_what_is_wrong_with_it() {
        let good = Key::generate([7; 32]).reveal().to_owned();
        for (text, error) in [
            ("", Malformed::Missing),
            ("sk-proj-0123456789", Malformed::Foreign),
            ("OFK_0123456789", Malformed::Foreign),
            ("ofk_", Malformed::Damaged),
            (&good[..LENGTH - 1], Malformed::Damaged),
            (&format!("{good}0"), Malformed::Damaged),
            (&good.replace('_', "-"), Malformed::Foreign),
        ] {
            assert_eq!(Key::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_request_carries_one_bearer_key() {
        let key = Key::generate([9; 32]);
        let bearer = format!("Bearer {}", key.reveal());
        for (values, found) in [
            (vec![bearer.as_str()], Ok(key.clone())),
            (vec![&bearer.replace("Bearer", "bearer ")], Ok(key.clone())),
            (vec![], Err(Malformed::Missing)),
            (vec!["Bearer"], Err(Malformed::Missing)),
            (vec!["Basic dXNlcjpwYXNz"], Err(Malformed::Foreign)),
            (vec![key.reveal()], Err(Malformed::Foreign)),
            (vec![&bearer, &bearer], Err(Malformed::Damaged)),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(Key::of_request(&headers), found, "{}", values.len());
        }
    }

    #[test]
    fn debug_never_shows_a_key() {
        assert_eq!(format!("{:?}", Key::generate([1; 32])), "Key(***)");
    }

    proptest! {
        #[test]
        fn what_is_generated_is_read_back(random: [u8; 32]) {
            let key = Key::generate(random);
            prop_assert_eq!(Key::parse(key.reveal()), Ok(key));
        }

        #[test]
        fn one_wrong_character_is_always_found(random: [u8; 32], place in PREFIX.len()..LENGTH, wrong in 0usize..62) {
            let key = Key::generate(random);
            let mut text = key.reveal().as_bytes().to_vec();
            prop_assume!(text[place] != ALPHABET[wrong]);
            text[place] = ALPHABET[wrong];
            prop_assert_eq!(Key::parse(std::str::from_utf8(&text).unwrap()), Err(Malformed::Damaged));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            let _ = Key::parse(&text);
            let _ = Key::parse(&format!("ofk_{text}"));
        }
    }
}
