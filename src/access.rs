//! The pure core: how much is allowed, and from where.
//!
//! `Terms` and a `Demand` go in, with an [`Account`] and the instant; out comes a decision whose draws are taken all
//! or none. A decision never awaits, never reads a clock, never does I/O and knows no float. The meter keeps an
//! account behind a lock (or a script) and calls the verbs; everything that a verb did stands in the record it gives.
//!
//! | file | idea |
//! |---|---|
//! | `demand`, `terms` | what is asked for, and by which policy and price |
//! | `account`, `counter`, `balance` | the live state |
//! | `walk`, `decide`, `reason` | the waterfall; allow or block; why, and when again |
//! | `hold`, `finish`, `untold`, `correct` | taking, extending, ending; ends that nobody told; a truth that comes after one |
//! | `revise`, `refund`, `adjust` | the next revision of a call's money; a charge given back; a balance changed by an operator |
//! | `ledgered` | grants, expiry, and restoring from the books |
//! | `standing` | what is left, for headers and look-ups |
//! | `record`, `entries`, `draw` | what is written down |

pub mod account;
pub mod adjust;
pub mod balance;
pub mod correct;
pub mod counter;
pub mod decide;
pub mod demand;
pub mod draw;
mod entries;
mod finish;
pub mod hold;
pub mod ledgered;
pub mod reason;
pub mod record;
pub mod refund;
pub mod revise;
pub mod standing;
pub mod terms;
mod untold;
pub mod walk;

pub use account::Account;
pub use adjust::{Adjusted, AdjustmentOrder, Unadjustable};
pub use correct::{Prior, Repriced, Uncorrectable};
pub use demand::Demand;
pub use hold::{Ask, Extended, Held, Hold, NoSuchHold, Proposal};
pub use ledgered::{GrantOrder, TooMuch};
pub use reason::{Block, Reason};
pub use refund::{RefundOrder, Unrefundable};
pub use revise::{Revision, Unrevisable};
pub use standing::Standing;
pub use terms::Terms;

#[cfg(test)]
mod tests;
