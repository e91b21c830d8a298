//! What a key stands for, and what may become of it. Pure.
//!
//! | a key that is… | met by the same request | by another one | ends… |
//! |---|---|---|---|
//! | absent, or older than it is kept | goes on | goes on | |
//! | running | 409, come back in a second | 422 | once, by the decision that took it |
//! | interrupted: running when the gateway died | the same | 422 | when the books tell what it cost |
//! | answered | the answer again | 422 | with its time |
//! | not kept: answered, and the answer is not there | 409 for good | 422 | with its time |
//! | unanswered: charged, and never answered whole | 409 for good | 422 | with its time |
//!
//! A call that charged nothing leaves its key free: a retry of it can succeed, and costs nobody twice.

use super::{Claim, End, Fingerprint};
use crate::units::{DecisionId, Span, Timestamp};

/// How far a call with a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is under way.
    Running,
    /// It was under way when the gateway died, and nobody has asked the books yet.
    Interrupted,
    /// It was answered, and the answer is here.
    Answered,
    /// It was answered, and the answer is not here.
    NotKept,
    /// It ended without an answer.
    Unanswered,
}

/// What is on record of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was asked with it.
    pub fingerprint: Fingerprint,
    /// The decision that took it.
    pub decision: DecisionId,
    /// When.
    pub at: Timestamp,
    /// How far that is.
    pub state: State,
}

/// What a claim on a key comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claim takes it.
    Take,
    /// It gets the answer that is here.
    Replay,
    /// It cannot go on.
    Refuse(Why),
}

/// Why a request with a known key cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It asks something else.
    OtherContent,
    /// The first one is under way.
    Running,
    /// The first one was answered, and the answer is not kept.
    NotKept,
    /// The first one ended without an answer.
    Unanswered,
}

/// What an end makes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Stay,
    /// It is free.
    Forget,
    /// It stands for this.
    Become(State),
}

impl State {
    /// All states.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Interrupted, Self::Answered, Self::NotKept, Self::Unanswered];

    /// Whether its end is still to come: such a key does not expire.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Interrupted)
    }
}

impl Why {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::OtherContent, Self::Running, Self::NotKept, Self::Unanswered];

    /// The word for it, in headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtherContent => "other-content",
            Self::Running => "in-flight",
            Self::NotKept => "not-kept",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What a claim comes to, by what is on record.
pub fn judge(entry: Option<&Entry>, claim: &Claim, keep: Span) -> Verdict {
    let Some(entry) = entry.filter(|entry| entry.state.is_open() || entry.at.plus(keep) > claim.at) else {
        return Verdict::Take;
    };
    if entry.fingerprint != claim.fingerprint {
        return Verdict::Refuse(Why::OtherContent);
    }
    match entry.state {
        State::Running | State::Interrupted => Verdict::Refuse(Why::Running),
        State::Answered => Verdict::Replay,
        State::NotKept => Verdict::Refuse(Why::NotKept),
        State::Unanswered => Verdict::Refuse(Why::Unanswered),
    }
}

/// What the end of `decision` makes of a key.
pub fn ended(entry: &Entry, decision: DecisionId, end: &End) -> Change {
    if entry.decision != decision || !entry.state.is_open() {
        return Change::Stay;
    }
    match end {
        End::Free => Change::Forget,
        End::Answered(_) => Change::Become(State::Answered),
        End::NotKept => Change::Become(State::NotKept),
        End::Unanswered => Change::Become(State::Unanswered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::{Answer, ScopedKey};
    use crate::units::{AccountId, UserId};

    const KEEP: Span = Span::from_seconds(60);
    const FIRST: DecisionId = DecisionId::from_bytes([1; 16]);
    const SECOND: DecisionId = DecisionId::from_bytes([2; 16]);

    fn claim(fingerprint: u8, at_ms: i64) -> Claim {
        Claim {
            key: ScopedKey::new(UserId::MIN, b"one"),
            fingerprint: Fingerprint([fingerprint; 32]),
            decision: SECOND,
            account: AccountId::MIN,
            at: Timestamp::from_ms(at_ms),
        }
    }

    fn entry(state: State) -> Entry {
        Entry { fingerprint: Fingerprint([7; 32]), decision: FIRST, at: Timestamp::from_ms(0), state }
    }

    #[test]
    fn each_state_meets_the_same_request_another_one_and_one_that_comes_late() {
        assert_eq!(judge(None, &claim(7, 0), KEEP), Verdict::Take);
        let table = [
            (State::Running, Verdict::Refuse(Why::Running), false),
            (State::Interrupted, Verdict::Refuse(Why::Running), false),
            (State::Answered, Verdict::Replay, true),
            (State::NotKept, Verdict::Refuse(Why::NotKept), true),
            (State::Unanswered, Verdict::Refuse(Why::Unanswered), true),
        ];
        assert_eq!(table.map(|(state, ..)| state), State::ALL);
        for (state, same, expires) in table {
            let judged = |fingerprint, at| judge(Some(&entry(state)), &claim(fingerprint, at), KEEP);
            assert_eq!(judged(7, 59_999), same, "{state:?}");
            assert_eq!(judged(8, 59_999), Verdict::Refuse(Why::OtherContent), "{state:?}");
            let late = |otherwise| if expires { Verdict::Take } else { otherwise };
            assert_eq!(judged(7, 60_000), late(same), "{state:?}");
            assert_eq!(judged(8, 60_000), late(Verdict::Refuse(Why::OtherContent)), "{state:?}");
        }
    }

    /// I9 for keys: the first end is the only one, and only its own decision tells it.
    #[test]
    fn a_key_ends_once_by_the_decision_that_took_it() {
        let answer = || Answer { status: 200, head: Vec::new(), body: bytes::Bytes::new(), room: None };
        let ends = [
            (End::Free, Change::Forget),
            (End::Answered(answer()), Change::Become(State::Answered)),
            (End::NotKept, Change::Become(State::NotKept)),
            (End::Unanswered, Change::Become(State::Unanswered)),
        ];
        for (end, change) in &ends {
            for state in State::ALL {
                let expected = if state.is_open() { *change } else { Change::Stay };
                assert_eq!(ended(&entry(state), FIRST, end), expected, "{state:?} {end:?}");
                assert_eq!(ended(&entry(state), SECOND, end), Change::Stay, "{state:?} {end:?}");
            }
        }
    }

    #[test]
    fn the_same_word_of_two_users_is_two_keys() {
        let other = UserId::from_bytes([9; 16]);
        assert_ne!(ScopedKey::new(UserId::MIN, b"one"), ScopedKey::new(other, b"one"));
        assert_eq!(ScopedKey::new(other, b"one"), ScopedKey::new(other, b"one"));
    }
}
