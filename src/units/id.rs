//! Identities. Each kind is a type of its own, so that a user can never stand where an account is meant.
//!
//! An id is 128 bits, shown as a prefix and 32 hexadecimal digits. Ids of things that happen are `UUIDv7` (RFC 9562):
//! ordered by time, which keeps the books' indexes append-only. Ids that must come out the same on a retry are
//! derived from what makes them the same.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Timestamp;

/// Text that is not an id of the kind asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of the form {prefix}_ and 32 hexadecimal digits")]
pub struct IdError {
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The smallest id, to start a range with.
            pub const MIN: Self = Self([0; 16]);

            /// A new id of the instant `now`; `random` makes it one of its kind.
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let ms = u64::try_from(now.ms()).unwrap_or_default();
                Self(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid().into_bytes())
            }

            /// The id that these parts always give.
            pub fn derived(parts: &[&[u8]]) -> Self {
                let mut hash = Sha256::new();
                for part in parts {
                    hash.update(part.len().to_le_bytes());
                    hash.update(part);
                }
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&hash.finalize()[..16]);
                Self(bytes)
            }

            /// The id from its 16 bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Which of `shards` it belongs to, by other bits than those that place it in an [`IdMap`].
            pub fn shard(&self, shards: usize) -> usize {
                let [.., a, b, _, _, _, _] = self.0;
                usize::from(u16::from_be_bytes([a, b])) % shards
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{:032x}"), u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let error = IdError { prefix: $prefix };
                let digits = text.strip_prefix(concat!($prefix, "_")).ok_or(error.clone())?;
                let mut bytes = [0; 16];
                hex::decode_to_slice(digits, &mut bytes).map_err(|_| error)?;
                Ok(Self(bytes))
            }
        }
    };
}

id!(/** Who pays. */ AccountId, "acc");
id!(/** Who calls, inside an account. */ UserId, "usr");
id!(/** One API key. */ KeyId, "key");
id!(/** One decision, and the call that it let through. */ DecisionId, "dec");
id!(/** What fills a balance. */ GrantId, "grt");
id!(/** What an operator ordered to set the books right: an adjustment, or a refund. */ OrderId, "ord");

/// A map by ids that the gateway itself made.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Hashes an id to its last eight bytes: they are random but for the two bits that come first, and nobody outside
/// chooses them.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 ^= u64::from_be_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The place of a record in its account's gapless sequence; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The next place.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which policy decided: the beginning of the SHA-256 of its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyVersion(pub u64);

impl PolicyVersion {
    /// The version of a policy with this text.
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&Sha256::digest(text.as_bytes())[..8]);
        Self(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for PolicyVersion {
    /// The first eight hexadecimal digits, enough to tell versions apart by eye.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    #[test]
    fn ids_are_ordered_by_time_and_shown_with_their_kind() {
        let early = DecisionId::new(Timestamp::from_ms(1_000), [0xff; 10]);
        let late = DecisionId::new(Timestamp::from_ms(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!(early.to_string().parse::<UserId>().is_err());
    }

    #[test]
    fn ids_of_one_shard_spread_over_all_of_its_map() {
        let hasher = BuildHasherDefault::<IdHasher>::default();
        let ids = (0..4096_u32).map(|number| {
            let mut random = [0; 10];
            random.copy_from_slice(&GrantId::derived(&[&number.to_le_bytes()]).as_bytes()[..10]);
            DecisionId::new(Timestamp::from_ms(1_000), random)
        });
        let places: HashSet<_> =
            ids.filter(|id| id.shard(64) == 7).map(|id| hasher.hash_one(id) % 16).collect();
        assert_eq!(places.len(), 16);
    }

    #[test]
    fn derived_ids_depend_on_where_their_parts_end() {
        assert_eq!(GrantId::derived(&[b"ab", b"c"]), GrantId::derived(&[b"ab", b"c"]));
        assert_ne!(GrantId::derived(&[b"ab", b"c"]), GrantId::derived(&[b"a", b"bc"]));
    }
}
