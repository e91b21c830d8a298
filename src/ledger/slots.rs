//! Counters packed into one value: for each 8 bytes of its key, of the instant, of the amount used, big endian.

use crate::access::counter::Slot;
use crate::policy::compiled::CounterKey;
use crate::units::Timestamp;

const SLOT_BYTES: usize = 24;

/// Packs counters into one value.
pub(super) fn pack(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
    for slot in slots {
        bytes.extend_from_slice(&slot.key.0.to_be_bytes());
        bytes.extend_from_slice(&slot.at.ms().to_be_bytes());
        bytes.extend_from_slice(&slot.used.to_be_bytes());
    }
    bytes
}

/// Unpacks counters; `None` where it is none.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<Slot>> {
    let (slots, []) = bytes.as_chunks::<SLOT_BYTES>() else { return None };
    let word = |slot: &[u8; SLOT_BYTES], place: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&slot[place * 8..][..8]);
        u64::from_be_bytes(word)
    };
    let slot = |slot: &[u8; SLOT_BYTES]| Slot {
        key: CounterKey(word(slot, 0)),
        at: Timestamp::from_ms(word(slot, 1).cast_signed()),
        used: word(slot, 2),
        held: 0,
    };
    Some(slots.iter().map(slot).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_packed_and_unpacked_as_they_were() {
        let slot = |key, ms, used| Slot { key: CounterKey(key), at: Timestamp::from_ms(ms), used, held: 0 };
        let slots = vec![slot(1, -5, 7), slot(u64::MAX, i64::MAX, u64::MAX)];
        assert_eq!(unpack(&pack(&slots)).unwrap(), slots);
        assert_eq!(unpack(&[0; 25]), None);
    }
}
