//! Turns for questions that a request waits for: the upstream is asked at a steady pace, however many want to know.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Nobody waits longer for a turn.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// One turn after the other.
#[derive(Debug)]
pub(super) struct Turns {
    every: Duration,
    /// The first that nobody has.
    free: Mutex<Instant>,
}

impl Turns {
    /// One turn in each such time.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, free: Mutex::new(Instant::now()) }
    }

    /// Waits for the next turn. `false`, at once, where that is too far away. A turn that is not waited for to its end
    /// is lost.
    pub(super) async fn next(&self) -> bool {
        let Some(turn) = self.take(Instant::now()) else { return false };
        tokio::time::sleep_until(turn).await;
        true
    }

    fn take(&self, now: Instant) -> Option<Instant> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = now.max(*free);
        if turn > now + WAIT_MAX {
            return None;
        }
        *free = turn + self.every;
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_a_steady_pace_and_nobody_is_given_one_that_is_too_far_away() {
        let turns = Turns::new(Duration::from_secs(1));
        let now = Instant::now() + Duration::from_mins(1);
        let later = |seconds| now + Duration::from_secs(seconds);
        for second in 0..=5 {
            assert_eq!(turns.take(now), Some(later(second)));
        }
        assert_eq!(turns.take(now), None);
        assert_eq!(turns.take(later(1)), Some(later(6)), "what was refused took none");
        assert_eq!(turns.take(later(60)), Some(later(60)), "none is saved up");
        assert_eq!(turns.take(later(60)), Some(later(61)));
    }
}
