mod differential;
mod server;

use std::path::Path;

use super::*;
use crate::journal;
use crate::ledger::sqlite::SqliteLedger;
use server::Server;

/// A node's meter on a Redis that other nodes may share, with a journal of its own.
async fn node(server: &Server, folder: &Path, policy: &Arc<Policy>, clock: &Clock) -> RedisMeter {
    let ledger = Arc::new(SqliteLedger::open(&folder.join("ledger.sqlite")).unwrap());
    ledger.keep_policy(policy.version, &policy.text).await.unwrap();
    let (journal, _) =
        Journal::open(&folder.join("journal"), journal::Options::default(), |_, _| Ok(())).unwrap();
    let store = Store::connect(&[server.url()], false, clock.clone()).await.unwrap();
    let policies = Arc::new(Policies::new(Arc::clone(policy)));
    RedisMeter::open(store, clock.clone(), policies, ledger, Arc::new(journal)).await.unwrap()
}
