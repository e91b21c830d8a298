//! The values everything else is counted in: credits, quantities, prices, identities, instants.
//!
//! Newtypes over whole numbers with checked arithmetic. No floats, no clock, no I/O. An amount that does not fit is
//! an error at the place where it arises, never a wrapped or clipped number further on.

pub mod credits;
pub mod id;
pub(crate) mod planted;
pub mod price;
pub mod quantity;
pub mod time;

pub use credits::{Credits, SignedCredits};
pub use id::{AccountId, DecisionId, GrantId, IdMap, KeyId, OrderId, PolicyVersion, Seq, UserId};
pub use price::{Decimal, Price};
pub use quantity::{Amount, Quantities, ToolCalls, Unit};
pub use time::{Span, Timestamp};
