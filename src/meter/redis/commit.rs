//! One step of an account, as the script takes it.

use std::sync::LazyLock;

use redis::{Cmd, Script, Value};

use super::keys::{Fixed, Partition, RowKey};
use super::store::{Store, StoreError};
use super::time::StoreTime;
use crate::units::{AccountId, Span, Timestamp};

const TEXT: &str = include_str!("commit.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(TEXT));

/// What no two writes have in common.
pub(super) type Stamp = [u8; 8];

/// A row as it was found: its stamp, and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) stamp: Option<Stamp>,
    pub(super) bytes: Vec<u8>,
}

/// What a row was found with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nobody has looked.
    Unknown,
    /// There was none.
    None,
    /// This.
    Stamp(Stamp),
}

impl From<Option<Stamp>> for Expected {
    fn from(found: Option<Stamp>) -> Self {
        found.map_or(Self::None, Self::Stamp)
    }
}

/// A row that is looked at.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) row: RowKey,
    pub(super) as_found: Expected,
}

/// A row that is written.
#[derive(Debug)]
pub(super) struct Written {
    /// Its place among those that are looked at.
    pub(super) place: usize,
    pub(super) bytes: Vec<u8>,
    /// How long it stays; for ever where none is given.
    pub(super) life: Option<Span>,
}

/// A place in an index that changes.
#[derive(Debug)]
pub(super) struct Indexed {
    pub(super) index: Fixed,
    pub(super) member: [u8; 32],
    /// When it is due; none takes it out.
    pub(super) due: Option<Timestamp>,
}

/// One step.
#[derive(Debug)]
pub(super) struct Commit<'a> {
    pub(super) account: AccountId,
    pub(super) epoch: &'a str,
    pub(super) now: Timestamp,
    pub(super) tolerance: Option<Span>,
    pub(super) stamp: Stamp,
    pub(super) looked: Vec<Looked>,
    pub(super) written: Vec<Written>,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) indexed: Vec<Indexed>,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is done.
    Done(Timestamp),
    /// Something had changed: the rows as they are.
    Stale(Timestamp, Vec<Found>),
    /// It was decided at another time than the store's.
    Time(Timestamp),
}

impl Written {
    /// The row as it is found after this.
    pub(super) fn found(&self, stamp: Stamp) -> Found {
        Found { stamp: Some(stamp), bytes: self.bytes.clone() }
    }
}

impl<'a> Commit<'a> {
    /// A step that changes nothing, and asks what rows say.
    pub(super) fn look(
        account: AccountId,
        epoch: &'a str,
        time: &StoreTime,
        rows: impl Iterator<Item = RowKey>,
    ) -> Self {
        Self {
            account,
            epoch,
            now: time.now(),
            tolerance: time.tolerance(),
            stamp: Stamp::default(),
            looked: rows.map(|row| Looked { row, as_found: Expected::Unknown }).collect(),
            written: Vec::new(),
            records: Vec::new(),
            indexed: Vec::new(),
        }
    }

    /// Whether it changes nothing.
    pub(super) const fn is_empty(&self) -> bool {
        self.written.is_empty() && self.records.is_empty() && self.indexed.is_empty()
    }

    /// Sends it. After [`StoreError::is_open`] it may have been done: the same may be sent again.
    pub(super) async fn send(&self, store: &Store) -> Result<Answer, StoreError> {
        let by_hash = self.command("EVALSHA", SCRIPT.get_hash());
        let answer = match store.call(&by_hash).await {
            Err(StoreError::Failed(error)) if is_unknown_script(&error) => {
                store.call(&self.command("EVAL", TEXT)).await?
            }
            answer => answer?,
        };
        self.read(answer)
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let partition = Partition::of(self.account);
        let mut command = redis::cmd(verb);
        command.arg(script).arg(Fixed::ALL.len() + self.looked.len());
        for fixed in Fixed::ALL {
            command.arg(partition.key(fixed));
        }
        for looked in &self.looked {
            command.arg(partition.row(self.account, looked.row));
        }
        command.arg(self.epoch).arg(self.now.ms());
        optional(&mut command, self.tolerance.map(|span| span.ms().to_string()));
        command.arg(&self.stamp[..]);
        for looked in &self.looked {
            match &looked.as_found {
                Expected::Unknown => command.arg("?"),
                Expected::None => command.arg(""),
                Expected::Stamp(stamp) => command.arg(&stamp[..]),
            };
        }
        command.arg(self.written.len());
        for written in &self.written {
            command.arg(written.place + 1).arg([&self.stamp[..], &written.bytes].concat());
            optional(&mut command, written.life.map(|span| span.ms().to_string()));
        }
        command.arg(self.records.len()).arg(&self.records);
        command.arg(self.indexed.len());
        for indexed in &self.indexed {
            command.arg(indexed.index.place()).arg(&indexed.member[..]);
            optional(&mut command, indexed.due.map(|at| at.ms().to_string()));
        }
        command
    }

    fn read(&self, answer: Value) -> Result<Answer, StoreError> {
        let unreadable = |what: &str| StoreError::Unreadable { what: format!("an answer {what}") };
        let Value::Array(values) = answer else { return Err(unreadable("that is no list")) };
        let mut values = values.into_iter();
        let word = values.next().and_then(bytes).ok_or_else(|| unreadable("without a word"))?;
        if word == b"epoch" {
            return Err(StoreError::Lost { partition: Partition::of(self.account).number() });
        }
        let Some(Value::Int(now)) = values.next() else { return Err(unreadable("without an instant")) };
        let now = Timestamp::from_ms(now);
        match word.as_slice() {
            b"done" => Ok(Answer::Done(now)),
            b"time" => Ok(Answer::Time(now)),
            b"stale" => {
                let rows: Vec<_> = values.map(found).collect::<Option<_>>().unwrap_or_default();
                if rows.len() == self.looked.len() {
                    Ok(Answer::Stale(now, rows))
                } else {
                    Err(unreadable("that lacks rows"))
                }
            }
            _ => Err(unreadable("of another word")),
        }
    }
}

fn optional(command: &mut Cmd, value: Option<String>) {
    command.arg(value.unwrap_or_default());
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn found(value: Value) -> Option<Found> {
    match value {
        Value::Nil | Value::Boolean(false) => Some(Found::default()),
        Value::BulkString(bytes) => {
            let (stamp, rest) = bytes.split_first_chunk()?;
            Some(Found { stamp: Some(*stamp), bytes: rest.to_vec() })
        }
        _ => None,
    }
}

fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
}
