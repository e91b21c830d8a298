//! How many tokens an input has, by its size.
//!
//! Text counts by bytes. What is not text does not: a megabyte of picture is a thousand tokens, not a quarter of a
//! million. The rules are rough on purpose; what a model really counts is learnt from its answers ([`crate::proxy::learn`]).

/// Bytes of text in one token: English prose and code come to three and a half to four and a half.
pub const BYTES_PER_TOKEN: u64 = 4;
/// Tokens of one picture: a 1024 × 1024 one at high detail comes to 765 to 1,600, by model.
pub const IMAGE_TOKENS: u64 = 1_200;
/// Base64 bytes of recorded speech in one token: ten tokens a second, at 128 kbit/s.
pub const AUDIO_BYTES_PER_TOKEN: u64 = 2_133;
/// Base64 bytes of a document in one token: a page of PDF is about 100 KiB, and 1,500 tokens as text and picture.
pub const FILE_BYTES_PER_TOKEN: u64 = 85;
/// Tokens of the smallest document, which is one page.
pub const FILE_TOKENS_MIN: u64 = 1_500;
/// Bytes of encrypted reasoning in one token: base64 of a sealed record, most of which the upstream drops unread
/// since it belongs to an earlier turn.
pub const ENCRYPTED_BYTES_PER_TOKEN: u64 = 16;

/// The size of an input.
#[derive(Debug, Default)]
pub(super) struct Size {
    text_bytes: u64,
    part_tokens: u64,
}

/// What is no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Image,
    /// What a tool made: a picture if it is longer than one's tokens would be as text.
    Result,
    Audio,
    File,
    Encrypted,
}

impl Size {
    pub(super) fn text(&mut self, bytes: usize) {
        self.text_bytes = self.text_bytes.saturating_add(bytes as u64);
    }

    pub(super) fn binary(&mut self, binary: Binary, bytes: usize) {
        let bytes = bytes as u64;
        let tokens = match binary {
            Binary::Image => IMAGE_TOKENS,
            Binary::Result => bytes.div_ceil(BYTES_PER_TOKEN).min(IMAGE_TOKENS),
            Binary::Audio => bytes.div_ceil(AUDIO_BYTES_PER_TOKEN),
            Binary::File => bytes.div_ceil(FILE_BYTES_PER_TOKEN).max(FILE_TOKENS_MIN),
            Binary::Encrypted => bytes.div_ceil(ENCRYPTED_BYTES_PER_TOKEN),
        };
        self.part_tokens = self.part_tokens.saturating_add(tokens);
    }

    pub(super) fn tokens(&self) -> u64 {
        self.text_bytes.div_ceil(BYTES_PER_TOKEN).saturating_add(self.part_tokens)
    }
}
