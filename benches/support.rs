//! What all sections share: processes, peers, a client, and the report.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod life;
pub(crate) mod load;
pub(crate) mod peers;
#[expect(dead_code, clippy::expect_used, reason = "tests use it too, and more of it")]
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod roles;
pub(crate) mod settings;
