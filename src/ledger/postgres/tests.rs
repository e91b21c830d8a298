//! The suite of every ledger, and what only this one can do: refuse by role, fail and come back as a server does.

use super::server::PostgresServer;
use super::*;
use crate::ledger::conformance::conformance;

async fn open() -> (Arc<dyn Ledger>, PostgresServer) {
    let server = PostgresServer::start().await;
    let ledger = PostgresLedger::open(&server.address()).await.unwrap();
    (Arc::new(ledger), server)
}

mod suite {
    super::conformance! { super::open }
}
