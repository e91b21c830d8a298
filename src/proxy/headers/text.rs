//! Writing header values: one buffer for all of them, and whole numbers only.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Headers, calendar_word, whole_units};
use crate::policy::compiled::Period;
use crate::units::credits::MICROS_PER_CREDIT;
use crate::units::{Amount, Span, Unit};

const TEXT_CAPACITY: usize = 1024;
const HEADERS_CAPACITY: usize = 24;
const FRACTION_DIGITS: usize = 6;
const DIGITS_OF_U64: usize = 20;

/// Values under construction. What has been written since the last [`Writer::end`] is the next one.
#[derive(Debug)]
pub(in crate::proxy) struct Writer {
    text: Vec<u8>,
    begin: usize,
    ended: Vec<(&'static HeaderName, usize, usize)>,
}

impl Writer {
    pub(in crate::proxy) fn new() -> Self {
        Self {
            text: Vec::with_capacity(TEXT_CAPACITY),
            begin: 0,
            ended: Vec::with_capacity(HEADERS_CAPACITY),
        }
    }

    /// Ends a value and gives it its name. What is empty is no header: a structured list without members is none.
    pub(in crate::proxy) fn end(&mut self, name: &'static HeaderName) {
        if self.begin < self.text.len() {
            self.ended.push((name, self.begin, self.text.len()));
        }
        self.begin = self.text.len();
    }

    /// A header with this value.
    pub(in crate::proxy) fn put(&mut self, name: &'static HeaderName, value: &str) {
        self.raw(value);
        self.end(name);
    }

    /// A header with this number.
    pub(in crate::proxy) fn put_number(&mut self, name: &'static HeaderName, value: u64) {
        self.number(value);
        self.end(name);
    }

    /// The headers. A value that no header may hold is left out: only a request id could be one.
    pub(in crate::proxy) fn finish(self) -> Headers {
        let text = Bytes::from(self.text);
        let value = |begin, end| HeaderValue::from_maybe_shared(text.slice(begin..end)).ok();
        let made =
            self.ended.into_iter().filter_map(|(name, begin, end)| Some((name.clone(), value(begin, end)?)));
        let mut headers = Vec::with_capacity(HEADERS_CAPACITY);
        headers.extend(made);
        Headers(headers)
    }

    /// What has been written, as text.
    pub(in crate::proxy) fn into_text(self) -> String {
        String::from_utf8(self.text).unwrap_or_default()
    }

    /// Begins the next member of a list.
    pub(super) fn member(&mut self) {
        if self.begin < self.text.len() {
            self.raw(", ");
        }
    }

    pub(in crate::proxy) fn raw(&mut self, text: &str) {
        self.text.extend_from_slice(text.as_bytes());
    }

    /// `value` in decimal.
    pub(in crate::proxy) fn number(&mut self, value: u64) {
        self.padded(value, 1);
    }

    /// `value` in decimal, at least `width` digits.
    pub(in crate::proxy) fn padded(&mut self, mut value: u64, width: usize) {
        let mut digits = [b'0'; DIGITS_OF_U64];
        let mut place = DIGITS_OF_U64;
        while value > 0 {
            place -= 1;
            digits[place] = b'0' + low_digit(value);
            value /= 10;
        }
        self.text.extend_from_slice(&digits[place.min(DIGITS_OF_U64 - width)..]);
    }

    /// An amount as people count it: credits as decimals, all else whole.
    pub(in crate::proxy) fn amount(&mut self, amount: Amount, unit: Unit) {
        if unit == Unit::Credit {
            self.number(amount.get() / MICROS_PER_CREDIT);
            self.fraction(amount.get() % MICROS_PER_CREDIT, FRACTION_DIGITS);
        } else {
            self.number(amount.get());
        }
    }

    /// `.` and the digits of a fraction of so many decimal places; nothing where it is zero.
    pub(in crate::proxy) fn fraction(&mut self, mut fraction: u64, mut width: usize) {
        if fraction == 0 {
            return;
        }
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        self.raw(".");
        self.padded(fraction, width);
    }

    /// How long a window is: `5h`, `7d`, `month`.
    pub(super) fn length(&mut self, period: &Period) {
        match period {
            Period::FirstUse(span) => {
                let (count, unit) = whole_units(*span);
                self.number(count);
                self.raw(unit);
            }
            Period::Calendar(unit, _) => self.raw(calendar_word(*unit)),
        }
    }

    /// A time as Go prints it, and so `OpenAI`: `0s`, `120ms`, `8.64s`, `1m2.5s`, `5h50m30s`.
    pub(in crate::proxy) fn go_duration(&mut self, span: Span) {
        let ms = span.ms();
        if (1..1000).contains(&ms) {
            self.number(ms);
            return self.raw("ms");
        }
        let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
        if hours > 0 {
            self.number(hours);
            self.raw("h");
        }
        if hours > 0 || minutes > 0 {
            self.number(minutes);
            self.raw("m");
        }
        self.number(ms / 1000 % 60);
        self.fraction(ms % 1000, 3);
        self.raw("s");
    }
}

impl fmt::Write for Writer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.raw(text);
        Ok(())
    }
}

fn low_digit(value: u64) -> u8 {
    (value % 10).to_le_bytes()[0]
}
