//! The bytes that complete a JSON text which was cut.
//!
//! The half that has passed cannot be taken back, so the rest is made up: as little as the grammar allows, and nothing
//! that a reader could mistake for a member that was really there. A key that was cut gets [`CUT_KEY_SUFFIX`], since
//! `input_tokens` may be the half of `input_tokens_details` and would stand there twice.

use super::text::Escape;
use super::{Place, Scanner};

/// Ends a key that was cut; no key of the protocol has it.
const CUT_KEY_SUFFIX: &[u8] = b"~";

impl<F: Copy> Scanner<F> {
    /// What completes the text, and puts `member` (as in `"key":1`) at the end of its outermost object.
    /// Empty for a whole text and for one that is no JSON.
    pub fn repair(&self, member: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        match self.place {
            Place::Done | Place::Broken => return out,
            Place::InText => self.end_cut_text(&mut out),
            Place::InLiteral { rest } => out.extend_from_slice(rest),
            Place::InNumber { last } if !last.is_ascii_digit() => out.push(b'0'),
            Place::Value => out.extend_from_slice(b"null"),
            Place::Key => out.extend_from_slice(b"\"\":null"),
            Place::Colon => out.extend_from_slice(b":null"),
            Place::InNumber { .. } | Place::FirstElement | Place::FirstKey | Place::After => {}
        }
        for level in (0..self.depth).rev() {
            let array = self.is_array(level);
            if let Some(member) = member.filter(|_| level == 0 && !array) {
                let first = self.depth == 1 && self.place == Place::FirstKey;
                out.extend_from_slice(if first { b"" } else { b"," });
                out.extend_from_slice(member.as_bytes());
            }
            out.push(if array { b']' } else { b'}' });
        }
        out
    }

    fn end_cut_text(&self, out: &mut Vec<u8>) {
        let mut high = self.text.high.is_some();
        match self.text.escape {
            Escape::None => out.extend_from_slice(rest_of_character(self.text.tail)),
            Escape::Begun if high => {
                out.extend_from_slice(b"udc00");
                high = false;
            }
            Escape::Begun => out.push(b'\\'),
            Escape::Unicode { digits, value } => {
                // Zeros complete any code unit; after a high surrogate it must come out as a low one.
                let rest: &[u8] = match (high, digits) {
                    (true, 0) => b"dc00",
                    (true, 1) => b"c00",
                    (false, 0) => b"0000",
                    (false, 1) => b"000",
                    (_, 2) => b"00",
                    _ => b"0",
                };
                out.extend_from_slice(rest);
                let completed = u32::from(value) << (4 * (4 - u32::from(digits.min(4))));
                high = !high && (0xd800..=0xdbff).contains(&completed);
            }
        }
        if high {
            out.extend_from_slice(b"\\udc00");
        }
        if self.key {
            out.extend_from_slice(CUT_KEY_SUFFIX);
        }
        out.push(b'"');
        if self.key {
            out.extend_from_slice(b":null");
        }
    }
}

/// What makes the cut character at the end of `tail` whole; nothing if the last one is whole.
fn rest_of_character(tail: [u8; 3]) -> &'static [u8] {
    match tail {
        [_, _, 0xc2..=0xdf]
        | [_, 0xe1..=0xef, 0x80..=0xbf]
        | [_, 0xe0, 0xa0..=0xbf]
        | [0xf0..=0xf4, 0x80..=0xbf, 0x80..=0xbf] => b"\x80",
        [_, _, 0xe0] => b"\xa0\x80",
        [_, _, 0xe1..=0xef] | [_, 0xf0..=0xf4, 0x80..=0xbf] => b"\x80\x80",
        [_, _, 0xf0] => b"\x90\x80\x80",
        [_, _, 0xf1..=0xf4] => b"\x80\x80\x80",
        _ => b"",
    }
}
