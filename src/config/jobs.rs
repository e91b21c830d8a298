//! How the upstream is asked for jobs: the settings, checked.

use super::raw;
use crate::policy::problem::Sink;
use crate::units::Span;

/// No upstream is asked more often, whoever sets the pace.
const POLLS_PER_SECOND_MAX: u64 = 1000;

/// How the upstream is asked for jobs whose end nobody has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jobs {
    /// Questions in a second, for all jobs together; at least one.
    pub polls_per_second: u32,
    /// The pause before the first question for a job.
    pub poll_first: Span,
    /// The longest pause between two.
    pub poll_longest: Span,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            polls_per_second: 10,
            poll_first: Span::from_seconds(10),
            poll_longest: Span::from_seconds(60),
        }
    }
}

/// The settings as given, where they make sense together.
pub(super) fn checked(given: &raw::Jobs, problems: &mut Sink<'_>) -> Jobs {
    let mut jobs = Jobs::default();
    if let Some(rate) = &given.polls_per_second {
        match u32::try_from(rate.value.0) {
            Ok(polls) if rate.value.0 <= POLLS_PER_SECOND_MAX => jobs.polls_per_second = polls,
            _ => {
                problems.report(&rate.at, rate.value.0.to_string(), format!("1 to {POLLS_PER_SECOND_MAX}"));
            }
        }
    }
    if let Some(first) = &given.poll_first {
        jobs.poll_first = first.value.0;
        jobs.poll_longest = jobs.poll_longest.max(jobs.poll_first);
    }
    if let Some(longest) = &given.poll_longest {
        jobs.poll_longest = longest.value.0;
        if jobs.poll_longest < jobs.poll_first {
            let allowed = format!("at least `poll_first`, which is {} s", jobs.poll_first.seconds_ceil());
            problems.report(&longest.at, format!("{} s", jobs.poll_longest.seconds_ceil()), allowed);
        }
    }
    jobs
}
