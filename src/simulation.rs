//! Deterministic simulation of the real code.
//!
//! The real access core, meter, journal, ledger, settler and jobs run in one thread, under a clock, a disk, an upstream
//! and users that a seed decides. After every step an [`auditor`], which shares no code with them, says what is left
//! everywhere and what the books must hold, from the facts alone. A crash drops everything but the disk and the books,
//! and the real recovery brings it back.
//!
//! The same seed gives the same run. `OVERFALL_SEED=17` runs that one alone, and tells what it did.

mod act;
mod auditor;
mod books;
mod node;
mod plan;
mod rules;
mod run;
mod shrink;
mod tests;
mod upstream;
mod world;
