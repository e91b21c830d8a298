use std::time::Duration;

use super::*;
use crate::idempotency::{Answer, End, Fingerprint, ScopedKey, Why};
use crate::units::{AccountId, DecisionId, Span, Timestamp};

const PATIENCE: Duration = Duration::from_secs(20);

struct Store {
    folder: tempfile::TempDir,
    clock: Clock,
    limits: Limits,
    answers: Option<Arc<SqliteAnswers>>,
}

impl Store {
    fn new() -> Self {
        Self::with(Limits { keep: Span::from_seconds(60), ..Limits::default() })
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_ms(1_000_000));
        let mut store = Self { folder, clock, limits, answers: None };
        store.open();
        store
    }

    /// Opens it again, as after a restart.
    fn open(&mut self) {
        self.answers = None;
        let path = self.folder.path().join("keys.sqlite");
        let opened = SqliteAnswers::open(&path, self.limits, Syncs::Each, self.clock.clone());
        self.answers = Some(Arc::new(opened.unwrap()));
    }

    fn answers(&self) -> Arc<SqliteAnswers> {
        Arc::clone(self.answers.as_ref().unwrap())
    }

    fn request(&self, key: u8, decision: u8) -> Claim {
        Claim {
            key: ScopedKey([key; 16]),
            fingerprint: Fingerprint([key; 32]),
            decision: decision_of(decision),
            account: AccountId::derived(&[&[key]]),
            at: self.clock.now(),
        }
    }

    async fn claim(&self, key: u8, decision: u8) -> Claimed {
        self.answers().claim(self.request(key, decision)).await.unwrap()
    }

    fn end(&self, key: u8, decision: u8, end: End) {
        self.answers().end(Ended {
            key: ScopedKey([key; 16]),
            decision: decision_of(decision),
            end,
            place: None,
        });
    }

    /// Takes a key, and answers it with a body of so many bytes.
    async fn answered(&self, key: u8, bytes: usize) {
        assert!(matches!(self.claim(key, key).await, Claimed::Taken), "{key}");
        self.end(key, key, answer(bytes));
    }

    /// The answer that a claim leads to.
    async fn answer(&self, key: u8, decision: u8) -> (DecisionId, Answer) {
        let Claimed::Answered(decision, bytes) = self.claim(key, decision).await else { panic!("answered") };
        let answers = self.answers();
        assert!(answers.answer(ScopedKey([key; 16]), decision_of(99)).await.unwrap().is_none(), "another's");
        let answer = answers.answer(ScopedKey([key; 16]), decision).await.unwrap().expect("kept");
        assert_eq!(bytes, (answer.head.len() + answer.body.len()) as u64);
        (decision, answer)
    }

    /// Why a key is refused.
    async fn why(&self, key: u8) -> Option<Why> {
        match self.claim(key, 255).await {
            Claimed::Refused(decision, why) => {
                assert_eq!(decision, decision_of(key), "{key}");
                Some(why)
            }
            Claimed::Answered(..) => None,
            Claimed::Taken => panic!("{key} was free"),
        }
    }
}

fn decision_of(number: u8) -> DecisionId {
    DecisionId::from_bytes([number; 16])
}

fn answer(bytes: usize) -> End {
    let head = b"x-request-id: req_1\n".to_vec();
    End::Answered(Answer { status: 200, head, body: vec![b'a'; bytes].into(), room: None })
}

#[tokio::test]
async fn of_many_claims_at_once_exactly_one_goes_on() {
    let store = Store::new();
    let claims = (1..=40).map(|decision| {
        let (answers, claim) = (store.answers(), store.request(7, decision));
        tokio::spawn(async move { answers.claim(claim).await.unwrap() })
    });
    let mut taken = 0;
    let mut refused = Vec::new();
    for claim in claims.collect::<Vec<_>>() {
        match claim.await.unwrap() {
            Claimed::Taken => taken += 1,
            Claimed::Refused(decision, Why::Running) => refused.push(decision),
            other => panic!("{other:?}"),
        }
    }
    refused.dedup();
    assert_eq!((taken, refused.len()), (1, 1), "and all others are told the same decision");
}

/// I10: what was answered is answered again after a restart, byte for byte.
#[tokio::test]
async fn an_answer_is_there_for_the_next_claim_and_after_a_restart() {
    let mut store = Store::new();
    store.answered(1, 5_000).await;
    for _ in 0..2 {
        let (decision, answer) = store.answer(1, 2).await;
        assert_eq!((decision, answer.status, answer.body.len()), (decision_of(1), 200, 5_000));
        assert_eq!(answer.head, b"x-request-id: req_1\n");
        store.open();
    }
    let other = Claim { fingerprint: Fingerprint([9; 32]), ..store.request(1, 3) };
    let refused = store.answers().claim(other).await.unwrap();
    assert!(matches!(refused, Claimed::Refused(decision, Why::OtherContent) if decision == decision_of(1)));
}

#[tokio::test]
async fn each_end_makes_of_the_key_what_it_says() {
    let mut store = Store::new();
    for (key, end) in [(1, End::Free), (2, End::NotKept), (3, End::Unanswered)] {
        assert!(matches!(store.claim(key, key).await, Claimed::Taken));
        store.end(key, 99, End::Free);
        store.end(key, key, end);
        store.end(key, key, answer(10));
    }
    for _ in 0..2 {
        assert_eq!((store.why(2).await, store.why(3).await), (Some(Why::NotKept), Some(Why::Unanswered)));
        store.open();
    }
    assert!(matches!(store.claim(1, 8).await, Claimed::Taken), "what charged nothing is free");
}

/// I10: a key that was taken is found after the loss of the process, and stays taken until somebody knows the end.
#[tokio::test]
async fn what_was_running_when_the_gateway_died_is_told_and_stays_taken_until_it_is_ended() {
    let mut store = Store::new();
    for key in [1, 2] {
        assert!(matches!(store.claim(key, key).await, Claimed::Taken));
    }
    assert!(store.answers().interrupted().await.unwrap().is_empty(), "nobody has died");
    store.open();
    let interrupted = store.answers().interrupted().await.unwrap();
    let expected = [1, 2].map(|key| {
        let Claim { key, decision, account, .. } = store.request(key, key);
        Interrupted { key, decision, account }
    });
    assert_eq!(interrupted, expected);
    store.clock.advance(Span::from_seconds(3600));
    assert_eq!(store.why(1).await, Some(Why::Running), "however long ago");
    store.end(1, 1, End::Unanswered);
    store.end(2, 2, End::Free);
    assert!(store.answers().interrupted().await.unwrap().is_empty());
    assert!(matches!(store.claim(2, 3).await, Claimed::Taken));
}

#[tokio::test]
async fn keys_are_forgotten_when_their_time_is_over_and_their_answers_with_them() {
    let store = Store::new();
    store.answered(1, 100).await;
    assert!(matches!(store.claim(2, 2).await, Claimed::Taken));
    store.clock.advance(Span::from_ms(59_999));
    assert_eq!(store.why(1).await, None);
    store.clock.advance(Span::from_ms(1));
    assert_eq!(store.why(2).await, Some(Why::Running), "what is under way does not expire");
    let file = rusqlite::Connection::open(store.folder.path().join("keys.sqlite")).unwrap();
    let swept = async {
        loop {
            let left: (i64, i64) = file
                .query_row("SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM answers)", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            if left == (1, 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, swept).await.expect("swept by itself");
    assert!(matches!(store.claim(1, 3).await, Claimed::Taken), "and free again");
}

#[tokio::test]
async fn a_key_that_expired_before_it_was_swept_is_free() {
    let store = Store::new();
    store.answered(1, 100).await;
    let late = Claim { at: store.clock.now().plus(Span::from_seconds(60)), ..store.request(1, 2) };
    assert!(matches!(store.answers().claim(late).await.unwrap(), Claimed::Taken));
    store.end(1, 2, answer(10));
    let (decision, answer) = store.answer(1, 3).await;
    assert_eq!((decision, answer.body.len()), (decision_of(2), 10), "with the new answer");
}

#[tokio::test]
async fn the_oldest_answers_go_where_there_is_too_much_and_their_keys_say_so() {
    let store = Store::with(Limits { total_bytes: 100_000, ..Limits::default() });
    for key in 1..=5 {
        store.answered(key, 30_000).await;
        store.clock.advance(Span::from_ms(1));
    }
    for (key, why) in [(1, Some(Why::NotKept)), (2, Some(Why::NotKept)), (3, None), (4, None), (5, None)] {
        assert_eq!(store.why(key).await, why, "{key}");
    }
}

#[tokio::test]
async fn the_oldest_keys_are_forgotten_where_there_are_too_many_but_none_that_is_under_way() {
    let store = Store::with(Limits { total_bytes: 4 << 10, ..Limits::default() });
    for key in 1..=8 {
        assert!(matches!(store.claim(key, key).await, Claimed::Taken));
        store.clock.advance(Span::from_ms(1));
    }
    for key in 2..=8 {
        store.end(key, key, End::NotKept);
    }
    assert_eq!(store.why(1).await, Some(Why::Running));
    for key in 6..=8 {
        assert_eq!(store.why(key).await, Some(Why::NotKept), "{key}");
    }
    assert!(matches!(store.claim(5, 9).await, Claimed::Taken), "forgotten");
}

/// What happens when the store cannot be written: nothing is taken, and no end is lost.
#[tokio::test]
async fn a_store_that_cannot_be_written_takes_no_key_and_loses_no_end() {
    let store = Store::new();
    for key in [1, 2] {
        assert!(matches!(store.claim(key, key).await, Claimed::Taken));
    }
    let path = store.folder.path().join("keys.sqlite");
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    store.end(1, 1, End::Free);
    store.end(2, 2, answer(10));
    let refused = store.answers().claim(store.request(3, 3)).await;
    assert!(matches!(refused, Err(AnswersError::Unavailable(_))), "{refused:?}");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(store.claim(3, 3).await, Claimed::Taken));
    assert!(matches!(store.claim(1, 4).await, Claimed::Taken), "it charged nothing, and is free");
    assert_eq!(store.why(2).await, Some(Why::NotKept), "its answer was not kept meanwhile");
}

/// Nobody waits for a thread that is gone.
#[tokio::test]
async fn after_its_end_a_store_refuses_at_once() {
    let store = Store::new();
    let answers = store.answers();
    answers.close();
    let refused = answers.claim(store.request(1, 1)).await;
    assert!(matches!(refused, Err(AnswersError::Closed)), "{refused:?}");
}
