//! Reading several sorted queries side by side, as replay wants them.

use super::recorded::{
    AskedCall, Entry, EntryKind, RecordedCall, RecordedRevision, RecordedUpdate, Replaced, Request,
};
use super::rows::BlockRow;
use crate::access::record::{AdjustmentRecord, GrantRecord};
use crate::units::{AccountId, Seq, Timestamp};

/// Rows of a sorted query behind their keys.
pub(super) trait Run<K, V, E>: Iterator<Item = Result<(K, V), E>> {}

impl<K, V, E, I: Iterator<Item = Result<(K, V), E>>> Run<K, V, E> for I {}

/// A sorted query with its next row at hand.
struct Peeked<K, V, I> {
    rows: I,
    next: Option<(K, V)>,
}

impl<K: Eq, V, I> Peeked<K, V, I> {
    /// At its first row.
    fn new<E>(mut rows: I) -> Result<Self, E>
    where
        I: Run<K, V, E>,
    {
        let next = rows.next().transpose()?;
        Ok(Self { rows, next })
    }

    /// The key of the row at hand.
    fn key(&self) -> Option<&K> {
        self.next.as_ref().map(|(key, _)| key)
    }

    /// Takes the row at hand if it has this key, and goes on to the next.
    fn take<E>(&mut self, key: &K) -> Result<Option<V>, E>
    where
        I: Run<K, V, E>,
    {
        match self.next.take_if(|(next, _)| next == key) {
            None => Ok(None),
            Some((_, value)) => {
                self.next = self.rows.next().transpose()?;
                Ok(Some(value))
            }
        }
    }
}

/// The place of an entry.
pub(super) type Place = (AccountId, Seq);

/// Puts together what is booked in each place.
pub(super) fn entries<E>(
    calls: impl Run<Place, RecordedCall, E>,
    corrections: impl Run<Place, (RecordedCall, Replaced), E>,
    grants: impl Run<Place, GrantRecord, E>,
    adjustments: impl Run<Place, AdjustmentRecord, E>,
    others: impl Run<Place, String, E>,
    updates: impl Run<Place, RecordedUpdate, E>,
    visit: &mut dyn FnMut(Entry),
) -> Result<(), E> {
    let (mut calls, mut corrections) = (Peeked::new(calls)?, Peeked::new(corrections)?);
    let (mut grants, mut others) = (Peeked::new(grants)?, Peeked::new(others)?);
    let (mut adjustments, mut updates) = (Peeked::new(adjustments)?, Peeked::new(updates)?);
    while let Some(next) =
        [calls.key(), corrections.key(), grants.key(), adjustments.key(), others.key(), updates.key()]
            .into_iter()
            .flatten()
            .min()
            .copied()
    {
        let (account, seq) = next;
        let (call, correction) = (calls.take(&next)?, corrections.take(&next)?);
        let (grant, adjustment) = (grants.take(&next)?, adjustments.take(&next)?);
        let what = match (call, correction, grant, adjustment, others.take(&next)?) {
            (Some(call), ..) => EntryKind::Call(Box::new(call)),
            (_, Some((call, replaced)), ..) => EntryKind::Correction(Box::new(call), Box::new(replaced)),
            (_, _, Some(grant), ..) => EntryKind::Grant(grant),
            (_, _, _, Some(adjustment), _) => EntryKind::Adjustment(adjustment),
            (.., Some(kind)) => EntryKind::Other(kind),
            (None, None, None, None, None) => EntryKind::Nothing,
        };
        let mut moved = Vec::new();
        while let Some(update) = updates.take(&next)? {
            moved.push(update);
        }
        visit(Entry { account, seq, what, updates: moved });
    }
    Ok(())
}

/// When an account asked, and in which place: [`Request::place`].
pub(super) type Asked = (AccountId, Timestamp, Seq);

/// Puts together what each account asked for.
pub(super) fn requests<E>(
    grants: impl Run<Asked, GrantRecord, E>,
    adjustments: impl Run<Asked, AdjustmentRecord, E>,
    revisions: impl Run<Asked, RecordedRevision, E>,
    calls: impl Run<Asked, AskedCall, E>,
    blocks: impl Run<Asked, BlockRow, E>,
    visit: &mut dyn FnMut(AccountId, Request),
) -> Result<(), E> {
    let (mut grants, mut adjustments) = (Peeked::new(grants)?, Peeked::new(adjustments)?);
    let (mut revisions, mut calls) = (Peeked::new(revisions)?, Peeked::new(calls)?);
    let mut blocks = Peeked::new(blocks)?;
    while let Some(next) = [grants.key(), adjustments.key(), revisions.key(), calls.key(), blocks.key()]
        .into_iter()
        .flatten()
        .min()
        .copied()
    {
        while let Some(grant) = grants.take(&next)? {
            visit(next.0, Request::Grant(grant));
        }
        while let Some(adjustment) = adjustments.take(&next)? {
            visit(next.0, Request::Adjustment(adjustment));
        }
        while let Some(revision) = revisions.take(&next)? {
            visit(next.0, Request::Revision(revision));
        }
        while let Some(call) = calls.take(&next)? {
            visit(next.0, Request::Call(Box::new(call)));
        }
        while let Some(block) = blocks.take(&next)? {
            visit(next.0, Request::Block(Box::new(block)));
        }
    }
    Ok(())
}
