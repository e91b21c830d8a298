//! Ends that nobody told: of a hold past its deadline, and of one that a crash left open.

use super::demand::Demand;
use super::hold::Hold;
use super::record::{Ending, Grade, JobKind, Outcome};

impl Hold {
    /// How it ends past its deadline. One that never left is given back, and so is a video's: nobody pays for one that
    /// is not known to be whole. Any other that left is charged at its floor.
    pub fn at_deadline(&self) -> (Demand, Ending) {
        let (floor, ending) = self.at_floor(Outcome::Expired);
        match self.dispatched {
            true if self.makes_video() => (Demand::nothing(), ending),
            true => (floor, ending),
            false => (Demand::nothing(), Ending::not_sent()),
        }
    }

    /// How it ends after a crash: as if it had left and been accepted, even if it had not.
    pub fn at_crash(&self) -> (Demand, Ending) {
        self.at_floor(Outcome::Crashed)
    }

    /// Whether it is a job that makes a video.
    pub fn makes_video(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.kind == JobKind::Video)
    }

    /// The input estimate, and no output.
    fn at_floor(&self, outcome: Outcome) -> (Demand, Ending) {
        let mut quantities = self.demand.quantities.clone();
        quantities.output_tokens = 0;
        // What was priced once is priced again; a floor that could not be is charged as it was held.
        let used = self.terms.estimate(quantities).unwrap_or_else(|_| self.demand.clone());
        let ending = Ending {
            outcome,
            grade: Grade::Floor,
            reached_upstream: true,
            status: None,
            tier: self.terms.tier.clone(),
            resource: self.job.as_ref().map(|job| job.resource.clone()),
        };
        (used, ending)
    }
}
