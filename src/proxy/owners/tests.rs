use super::*;
use crate::access::record::{MadeVideo, Resource};
use crate::journal;
use crate::ledger::sqlite::SqliteLedger;

const ACCOUNT: AccountId = AccountId::from_bytes([1; 16]);
const USER: UserId = UserId::from_bytes([2; 16]);

/// Memory is no longer a witness than the books: what they have forgotten exists for nobody.
#[tokio::test]
async fn what_was_made_is_known_before_the_books_have_it_and_not_once_they_have_forgotten_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::from_ms(1_795_000_000_000));
    let ledger = Arc::new(SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap());
    let options = journal::Options::default();
    let (journal, _) = Journal::open(&folder.path().join("journal"), options, |_, _| Ok(())).unwrap();
    let owners = Owners::new(ledger.clone(), Arc::new(journal), clock.clone(), &[]);
    owners.made("resp_1", Response { account: ACCOUNT, user: USER, context_tokens: 7, upstream: None });
    let made = MadeRecord {
        resource: Resource { id: "video_1".into(), upstream: None },
        account: ACCOUNT,
        user: USER,
        made_at: clock.now(),
        video: Some(MadeVideo { model: "sora-2".into(), seconds: 8, size: None }),
    };
    owners.own(made.clone()).unwrap().await.unwrap();
    let known = async || {
        let from = VideosFrom { after: None, newest_first: true };
        let listed = owners.videos_of(USER, from, 9).await.unwrap().len();
        let mut known = Vec::new();
        for id in ["resp_1", "video_1"] {
            assert!(owners.owned_by(AccountId::from_bytes([9; 16]), id).await.unwrap().is_none(), "I14");
            known.push(owners.owned_by(ACCOUNT, id).await.unwrap().is_some());
        }
        (known, listed)
    };
    assert_eq!(known().await, (vec![true, true], 1), "the books have neither");
    ledger.apply(vec![Record::Made(made)]).await.unwrap();
    assert_eq!(known().await, (vec![true, true], 1));
    clock.advance(KEPT_FOR);
    assert_eq!(known().await, (vec![false, true], 1), "the books have one of them");
    ledger.forget_made(clock.now(), Page(9)).await.unwrap();
    assert_eq!(known().await, (vec![false, false], 0));
}
