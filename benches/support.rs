//! What all sections share: processes, peers, a client, and the report.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod life;
pub(crate) mod load;
pub(crate) mod peers;
#[expect(dead_code, reason = "the ledger's tests use more of it")]
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod roles;
pub(crate) mod settings;
