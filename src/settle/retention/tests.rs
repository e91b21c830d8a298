use super::*;
use crate::access::record::{MadeRecord, Record, Resource};
use crate::ledger::samples::Sample;
use crate::ledger::sqlite::SqliteLedger;
use crate::units::Timestamp;

const DAY: Span = Span::from_seconds(24 * 3600);
const LOOK: Duration = Duration::from_millis(10);

/// More than are forgotten together are forgotten at one look, and younger ones at a later one.
#[tokio::test]
async fn what_is_past_its_time_is_forgotten_however_much_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap());
    let sample = Sample::new(1);
    let clock = Clock::manual(Timestamp::from_ms(1_795_000_000_000));
    let made = |id: String, made_at| {
        Record::Made(MadeRecord {
            resource: Resource { id: id.into(), upstream: None },
            account: sample.account.id,
            user: sample.user.id,
            made_at,
            video: None,
        })
    };
    let count = 2 * u32::from(TOGETHER.0) + 3;
    let mut all: Vec<_> = (0..count).map(|nth| made(format!("old_{nth}"), clock.now())).collect();
    all.push(made("young".to_owned(), clock.now().plus(DAY)));
    ledger.apply(all).await.unwrap();
    let retention = Retention { ledger: ledger.clone(), clock: clock.clone(), keep: DAY, every: LOOK };
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(retention.run(stopping));
    let is_known = async |id: &str| ledger.owner_of(id).await.unwrap().is_some();
    let gone = async |id: &str| {
        while is_known(id).await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let last = format!("old_{}", count - 1);
    tokio::time::sleep(3 * LOOK).await;
    assert!(is_known(&last).await, "a day is not over");
    clock.advance(Span::from_ms(DAY.ms() + 1));
    for nth in 0..count {
        gone(&format!("old_{nth}")).await;
    }
    assert!(is_known("young").await);
    clock.advance(DAY);
    gone("young").await;
    stop.send_replace(true);
    running.await.unwrap();
}
