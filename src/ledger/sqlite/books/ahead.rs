//! Reading ahead: while a page is looked at, a thread of its own reads the one behind it, on a connection of its own.
//!
//! Both connections see the same books. A reader of a write-ahead log sees them as of its first read, and whatever
//! changes events, money, updates or records adds a place to one of them: so two readers that see the same newest
//! places see the same rows.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use rusqlite::Connection;

use super::super::connection;
use super::pages::{Pages, extent};
use crate::ledger::LedgerError;
use crate::ledger::books::{BookedEvent, BookedRecord, BookedUpdate, Extent};

/// Which page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ask {
    after: i64,
    limit: u32,
}

/// Which page of which table is read.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Events(Ask),
    Updates(Ask),
    Records(Ask),
}

/// The thread that reads ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    wishes: Sender<Wish>,
    events: Line<BookedEvent>,
    updates: Line<BookedUpdate>,
    records: Line<BookedRecord>,
}

/// The pages of one table.
#[derive(Debug)]
struct Line<T> {
    pages: Receiver<Result<Vec<T>, LedgerError>>,
    /// The page that is read now.
    asked: Option<Ask>,
    wish: fn(Ask) -> Wish,
    place: fn(&T) -> i64,
}

impl Ahead {
    /// Reads ahead of someone who sees the books up to these places. `None` where that is not what is seen now.
    pub(super) fn open(path: &Path, sees: Extent) -> Result<Option<Self>, LedgerError> {
        let connection = connection::reader(path)?;
        super::begin(&connection)?;
        if extent(&connection)? != sees {
            return Ok(None);
        }
        let (wishes, asked) = channel();
        let (to_events, events) = channel();
        let (to_updates, updates) = channel();
        let (to_records, records) = channel();
        let serve = move || serve(&connection, &asked, &to_events, &to_updates, &to_records);
        let thread = std::thread::Builder::new().name("read-ahead".to_owned()).spawn(serve);
        thread.map_err(|error| LedgerError::Unavailable(Box::new(error)))?;
        Ok(Some(Self {
            wishes,
            events: Line { pages: events, asked: None, wish: Wish::Events, place: |event| event.place },
            updates: Line { pages: updates, asked: None, wish: Wish::Updates, place: |update| update.place },
            records: Line { pages: records, asked: None, wish: Wish::Records, place: |record| record.place },
        }))
    }

    pub(super) fn events(&mut self, after: i64, limit: u32) -> Result<Vec<BookedEvent>, LedgerError> {
        self.events.next(&self.wishes, Ask { after, limit })
    }

    pub(super) fn updates(&mut self, after: i64, limit: u32) -> Result<Vec<BookedUpdate>, LedgerError> {
        self.updates.next(&self.wishes, Ask { after, limit })
    }

    pub(super) fn records(&mut self, after: i64, limit: u32) -> Result<Vec<BookedRecord>, LedgerError> {
        self.records.next(&self.wishes, Ask { after, limit })
    }
}

impl<T> Line<T> {
    /// This page; the one behind it is read from now on.
    fn next(&mut self, wishes: &Sender<Wish>, ask: Ask) -> Result<Vec<T>, LedgerError> {
        if self.asked.is_some_and(|asked| asked != ask) {
            self.receive()?;
        }
        if self.asked.is_none() {
            self.ask(wishes, ask)?;
        }
        let page = self.receive()?;
        if let Some(last) = page.last() {
            self.ask(wishes, Ask { after: (self.place)(last), ..ask })?;
        }
        Ok(page)
    }

    fn ask(&mut self, wishes: &Sender<Wish>, ask: Ask) -> Result<(), LedgerError> {
        self.asked = Some(ask);
        wishes.send((self.wish)(ask)).map_err(|_| gone())
    }

    fn receive(&mut self) -> Result<Vec<T>, LedgerError> {
        self.asked = None;
        self.pages.recv().map_err(|_| gone())?
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("the thread that reads ahead has ended".into())
}

/// Reads what is wished, until nobody wishes any more.
fn serve(
    connection: &Connection,
    wishes: &Receiver<Wish>,
    events: &Sender<Result<Vec<BookedEvent>, LedgerError>>,
    updates: &Sender<Result<Vec<BookedUpdate>, LedgerError>>,
    records: &Sender<Result<Vec<BookedRecord>, LedgerError>>,
) {
    let mut pages = Pages::new();
    while let Ok(wish) = wishes.recv() {
        // Nobody listens any more: the next wish will not come either.
        let _unheard = match wish {
            Wish::Events(Ask { after, limit }) => {
                events.send(pages.events(connection, after, limit)).is_err()
            }
            Wish::Updates(Ask { after, limit }) => {
                updates.send(Pages::updates(connection, after, limit)).is_err()
            }
            Wish::Records(Ask { after, limit }) => {
                records.send(pages.records(connection, after, limit)).is_err()
            }
        };
    }
}
