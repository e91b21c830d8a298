//! A model of the protocol, explored whole: every order in which what can happen happens, within stated bounds.
//!
//! What is real and what is told again: decisions, draws, ends, corrections and the way back from books and journal are
//! the core's own (`access::Account`), booking is the ledger's own (`ledger::posting`). Around them the model tells
//! again what processes, disks and networks do to them: journals that lose what is not durable, gateways that are
//! killed between any two steps and come back, streams that lose and repeat, workers that read in any order and die.
//!
//! The properties bear the names of the invariants ([`overfall::audit::Invariant`]). A property holds in every state
//! that can be reached, or the model prints the steps that lead to one where it does not. That the model would notice
//! is shown by breaking its rules one at a time (`bend`).
//!

mod bend;
mod books;
mod bounds;
mod machine;
mod properties;
mod recovery;
mod revisions;
mod scene;
mod state;
mod step;
mod verbs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use overfall::access::Account;
use overfall::audit::Invariant;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::page;
use bend::Bend;
use books::Books;
use scene::{Bounds, Scene, account};
use state::{Call, Gateway, Left, Meter, State};
use step::Action;

/// The protocol within bounds, with at most one of its rules broken.
#[derive(Debug)]
struct Protocol {
    scene: Scene,
    bounds: Bounds,
    bend: Option<Bend>,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let bounds = &self.bounds;
        vec![State {
            now: 0,
            policy: 0,
            meter: Some(Arc::new(Meter::new(Account::new(account())))),
            gateways: vec![Gateway::new(); bounds.gateways],
            calls: vec![Call::Idle; bounds.calls.len()],
            stream: BTreeSet::new(),
            workers: vec![None; bounds.workers],
            books: Arc::new(Books::default()),
            log: Vec::new(),
            left: Left {
                crashes: bounds.crashes,
                repeats: bounds.repeats,
                reloads: bounds.reloads,
                renewals: bounds.renewals,
                extensions: bounds.extensions,
            },
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.step(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}

/// Explores everything within bounds, and compares the numbers of states with those of `docs/proof.md`. Where time is
/// `left`, no longer than that: what is not whole by then is told, and its states have held so far.
fn explore(all: &[Bounds], mut left: Option<Duration>) {
    let (mut sum, mut unsaid) = (0, Vec::new());
    for bounds in all {
        for reach in bounds.reaches {
            assert!(properties::is_known(reach), "{reach}");
        }
        let began = crate::now();
        let mut checker = Protocol { scene: Scene::new(), bounds: *bounds, bend: None }.checker();
        if let Some(left) = left {
            checker = checker.timeout(left);
        }
        let explored = checker.threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let took = began.elapsed();
        let states = explored.unique_state_count();
        sum += states;
        crate::tell(states, "states of the model");
        if left.is_some_and(|left| took >= left) {
            let always = |property: &Property<Protocol>| matches!(property.expectation, Expectation::Always);
            for property in explored.model().properties().into_iter().filter(always) {
                explored.assert_no_discovery(property.name);
            }
            println!("model: {}: {states} states in {took:.1?}, when time was over", bounds.name);
            left = Some(Duration::from_secs(1));
            continue;
        }
        explored.assert_properties();
        println!("model: {}: {states} states in {took:.1?}, all", bounds.name);
        let row = format!("| {} | {} |", bounds.name, page::with_commas(states));
        if !page::PAGE.contains(&row) {
            unsaid.push(row);
        }
        left = left.map(|left| left.saturating_sub(took).max(Duration::from_secs(1)));
    }
    println!("model: {sum} states in all, and no violation");
    assert!(unsaid.is_empty(), "docs/proof.md does not say:\n{}", unsaid.join("\n"));
}

#[test]
fn the_invariants_hold_in_every_state_within_small_bounds() {
    explore(bounds::SMALL, None);
}

/// Larger bounds, where there are minutes.
#[test]
fn the_invariants_hold_in_every_state_within_large_bounds() {
    if let Some(longest) = crate::longest() {
        explore(bounds::LARGE, Some(longest));
    }
}

#[test]
fn every_broken_rule_leads_to_a_state_that_breaks_an_invariant() {
    crate::tell(bounds::BENT.len(), "bugs planted in the model");
    for (bend, bounds, broken) in bounds::BENT {
        let model = Protocol { scene: Scene::new(), bounds: *bounds, bend: Some(*bend) };
        let explored = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found: Vec<&str> = explored
            .discoveries()
            .into_keys()
            .filter(|name| Invariant::ALL.iter().any(|invariant| invariant.as_str() == *name))
            .collect();
        println!("model: {bend:?}: {found:?} after {} states", explored.unique_state_count());
        let expected = broken.iter().any(|invariant| found.contains(&invariant.as_str()));
        assert!(expected, "{bend:?} was to break {broken:?}, and broke {found:?}");
        crate::tell(1, "bugs found in the model");
    }
}
