//! A provider's usage export: pages of the organisation usage endpoint as JSON, or the same as CSV.
//!
//! JSON: one page, an array of pages, or pages one behind the other, as they were fetched. CSV: a header with the names
//! of the endpoint's fields; others are passed over, empty cells are nothing, and `3.0` is 3. Finer buckets than days
//! are summed, results that are grouped by more than the model as well. What is not understood is an error that says
//! where: a bill is never guessed.

use std::collections::BTreeMap;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::{ALL_MODELS, Counts, ROWS, day_of, undated};
use crate::units::Timestamp;

/// What some programs begin a text with.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An export, summed by UTC day and model.
#[derive(Debug)]
pub struct Export {
    counts: BTreeMap<(i64, String), Counts>,
    from: Timestamp,
    until: Timestamp,
    tells_models: bool,
}

/// Why an export is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The file cannot be read.
    #[error("the export cannot be read")]
    File(#[from] std::io::Error),
    /// It is not JSON, or not of the endpoint's shape.
    #[error("the export is not in the shape of the usage endpoint")]
    Json(#[from] serde_json::Error),
    /// It is not CSV, or lacks a column.
    #[error("the export is no table of usage")]
    Csv(#[from] csv::Error),
    /// A field is not what its name says.
    #[error("row {row} of the export: `{field}` is `{found}`")]
    Field {
        /// The row, the header not counted.
        row: u64,
        /// The column.
        field: &'static str,
        /// What stands there.
        found: String,
    },
    /// A bucket ends before it begins, or is longer than a day of UTC.
    #[error("the bucket from {from} until {until} is not within one day of UTC")]
    Bucket {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// There are no buckets.
    #[error("the export has no buckets")]
    Empty,
    /// Some results name their model and some do not.
    #[error("some results name no model: export them grouped by model, or none of them")]
    Models,
    /// The last page says that there are more.
    #[error("the export goes on after its last page: fetch that as well")]
    NotWhole,
    /// There are more days and models than are compared at once.
    #[error("the export has more than {ROWS} days and models: reconcile a shorter time")]
    TooMany,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket {
    start_time: i64,
    end_time: i64,
    /// Some descriptions of the endpoint call it `result`.
    #[serde(alias = "result")]
    results: Vec<UsageResult>,
}

#[derive(Deserialize)]
struct UsageResult {
    input_tokens: u64,
    output_tokens: u64,
    #[serde(default)]
    input_cached_tokens: Option<u64>,
    num_model_requests: u64,
    #[serde(default)]
    model: Option<String>,
}

/// What an export comes to, as it is read.
#[derive(Default)]
struct Summing {
    counts: BTreeMap<(i64, String), Counts>,
    edges: Option<(Timestamp, Timestamp)>,
    named: bool,
    unnamed: bool,
}

impl Export {
    /// Reads JSON or CSV, told apart by how it begins.
    pub fn read(mut file: impl BufRead) -> Result<Self, ExportError> {
        if file.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            file.consume(BYTE_ORDER_MARK.len());
        }
        let first = file.fill_buf()?.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(first, Some(b'{' | b'[')) { Self::json(file) } else { Self::csv(file) }
    }

    fn json(file: impl Read) -> Result<Self, ExportError> {
        let mut summing = Summing::default();
        let mut is_whole = true;
        for part in serde_json::Deserializer::from_reader(file).into_iter::<serde_json::Value>() {
            let pages = match part? {
                serde_json::Value::Array(pages) => pages,
                page => vec![page],
            };
            for page in pages {
                let page: Page = serde_json::from_value(page)?;
                is_whole = !page.has_more;
                for bucket in page.data {
                    let (from, until) = (seconds(bucket.start_time), seconds(bucket.end_time));
                    summing.bucket(from, until)?;
                    for result in bucket.results {
                        let counts = Counts {
                            requests: result.num_model_requests,
                            input_tokens: result.input_tokens,
                            cached_input_tokens: result.input_cached_tokens.unwrap_or(0),
                            output_tokens: result.output_tokens,
                        };
                        summing.add(from, result.model.as_deref(), &counts)?;
                    }
                }
            }
        }
        if is_whole { summing.export() } else { Err(ExportError::NotWhole) }
    }

    fn csv(file: impl Read) -> Result<Self, ExportError> {
        let mut summing = Summing::default();
        let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let columns = Columns::of(table.headers()?)?;
        for (record, row) in table.records().zip(1..) {
            let record = record?;
            let cell = |column: Option<usize>| column.and_then(|column| record.get(column)).unwrap_or("");
            let at = |field, column| {
                let found = cell(Some(column));
                instant(found).ok_or_else(|| ExportError::Field { row, field, found: found.to_owned() })
            };
            let count = |field, column| {
                let found = cell(column);
                whole(found).ok_or_else(|| ExportError::Field { row, field, found: found.to_owned() })
            };
            let (from, until) = (at("start_time", columns.start)?, at("end_time", columns.end)?);
            summing.bucket(from, until)?;
            let counts = Counts {
                requests: count("num_model_requests", columns.requests)?,
                input_tokens: count("input_tokens", columns.input)?,
                cached_input_tokens: count("input_cached_tokens", columns.cached)?,
                output_tokens: count("output_tokens", columns.output)?,
            };
            if counts != Counts::default() {
                let model = Some(cell(columns.model)).filter(|model| !model.is_empty());
                summing.add(from, model, &counts)?;
            }
        }
        summing.export()
    }

    /// What it says of each day, since 1970, and model.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&(i64, String), &Counts)> {
        self.counts.iter()
    }

    /// The beginning of what it covers.
    pub const fn from(&self) -> Timestamp {
        self.from
    }

    /// The end of what it covers.
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether it tells models apart.
    pub const fn tells_models(&self) -> bool {
        self.tells_models
    }
}

impl Summing {
    fn bucket(&mut self, from: Timestamp, until: Timestamp) -> Result<(), ExportError> {
        let is_within_a_day = from < until && day_of(from) == day_of(Timestamp::from_ms(until.ms() - 1));
        if !is_within_a_day {
            return Err(ExportError::Bucket { from, until });
        }
        let (first, last) = self.edges.unwrap_or((from, until));
        self.edges = Some((first.min(from), last.max(until)));
        Ok(())
    }

    fn add(&mut self, at: Timestamp, model: Option<&str>, counts: &Counts) -> Result<(), ExportError> {
        self.named |= model.is_some();
        self.unnamed |= model.is_none();
        let model = model.map_or(ALL_MODELS, undated);
        self.counts.entry((day_of(at), model.to_owned())).or_default().add(counts);
        if self.counts.len() > ROWS { Err(ExportError::TooMany) } else { Ok(()) }
    }

    fn export(mut self) -> Result<Export, ExportError> {
        let (from, until) = self.edges.ok_or(ExportError::Empty)?;
        if self.named && self.unnamed {
            return Err(ExportError::Models);
        }
        self.counts.retain(|_, counts| *counts != Counts::default());
        // Where nothing was used, the books are asked by model.
        Ok(Export { counts: self.counts, from, until, tells_models: !self.unnamed })
    }
}

/// Where the columns stand that are read. An export of a time without any use has no columns of use.
struct Columns {
    start: usize,
    end: usize,
    requests: Option<usize>,
    input: Option<usize>,
    cached: Option<usize>,
    output: Option<usize>,
    model: Option<usize>,
}

impl Columns {
    fn of(headers: &csv::StringRecord) -> Result<Self, ExportError> {
        let find = |name: &str| headers.iter().position(|header| header.eq_ignore_ascii_case(name));
        let missing =
            |name: &'static str| ExportError::Field { row: 0, field: name, found: "no column".to_owned() };
        let columns = Self {
            start: find("start_time").ok_or_else(|| missing("start_time"))?,
            end: find("end_time").ok_or_else(|| missing("end_time"))?,
            requests: find("num_model_requests"),
            input: find("input_tokens"),
            cached: find("input_cached_tokens"),
            output: find("output_tokens"),
            model: find("model"),
        };
        let used = [
            ("num_model_requests", columns.requests),
            ("input_tokens", columns.input),
            ("output_tokens", columns.output),
        ];
        let is_any = used.iter().any(|(_, column)| column.is_some());
        match used.iter().find(|(_, column)| column.is_none()) {
            Some((name, _)) if is_any => Err(missing(name)),
            _ => Ok(columns),
        }
    }
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_ms(at.saturating_mul(1_000))
}

/// Seconds since 1970, or an instant as text.
fn instant(text: &str) -> Option<Timestamp> {
    match whole(text).filter(|_| !text.is_empty()) {
        Some(at) => Some(seconds(i64::try_from(at).ok()?)),
        None => text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp::from_ms(at.as_millisecond())),
    }
}

/// A whole number, which some tables write with a point and zeros; nothing is none.
fn whole(text: &str) -> Option<u64> {
    let (digits, zeros) = text.split_once('.').unwrap_or((text, ""));
    let is_whole = zeros.bytes().all(|byte| byte == b'0');
    match digits {
        "" if text.is_empty() => Some(0),
        _ if is_whole => digits.parse().ok(),
        _ => None,
    }
}
