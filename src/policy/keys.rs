//! The keys of counters and balances, derived in this one place.
//!
//! A key is the first eight bytes, big endian, of the SHA-256 over the parts of an identity, each behind its length.
//! So it is the same in every process, under every plan and limit, for as long as the identity is.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::compiled::{CalendarUnit, CounterKey, Period, Rate};
use super::problem::{Place, Sink, quoted};
use crate::units::Unit;

/// What a counter is, whatever plan or limit it is used under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    feature: String,
    name: String,
    unit: &'static str,
    starts: &'static str,
    length: String,
    time_zone: String,
}

/// The keys given so far, each with its owner.
#[derive(Debug, Default)]
pub(super) struct Keys {
    taken: HashMap<CounterKey, Owner>,
}

#[derive(Debug)]
struct Owner {
    role: &'static str,
    identity: Identity,
    line: usize,
}

impl Identity {
    /// A window of a layer, or of a guard on spend.
    pub(super) fn window(feature: &str, name: &str, unit: Unit, period: &Period) -> Self {
        let (starts, length, time_zone) = match period {
            Period::FirstUse(length) => ("first_use", length.ms().to_string(), ""),
            Period::Calendar(unit, zone) => {
                let length = match unit {
                    CalendarUnit::Day => "day",
                    CalendarUnit::Week => "week",
                    CalendarUnit::Month => "month",
                };
                ("calendar", length.to_owned(), zone.iana_name().unwrap_or_default())
            }
        };
        Self::of(feature, name, unit, starts, length, time_zone)
    }

    /// The bucket of a guard.
    pub(super) fn bucket(feature: &str, name: &str, rate: &Rate) -> Self {
        Self::of(feature, name, rate.unit, "rate", rate.every.ms().to_string(), "")
    }

    /// What a guard counts in flight.
    pub(super) fn in_flight(feature: &str, name: &str) -> Self {
        Self::of(feature, name, Unit::Request, "concurrent", String::new(), "")
    }

    /// A balance.
    pub(super) fn balance(name: &str) -> Self {
        Self::of("", name, Unit::Credit, "balance", String::new(), "")
    }

    fn of(
        feature: &str,
        name: &str,
        unit: Unit,
        starts: &'static str,
        length: String,
        time_zone: &str,
    ) -> Self {
        let (feature, name, time_zone) = (feature.to_owned(), name.to_owned(), time_zone.to_owned());
        Self { feature, name, unit: unit.as_str(), starts, length, time_zone }
    }

    /// What an account was forgiven of a feature in a UTC month.
    fn forgiven(feature: &str) -> Self {
        Self::of(feature, "", Unit::Credit, "forgiven", "month".to_owned(), "UTC")
    }

    fn key(&self) -> CounterKey {
        let Self { feature, name, unit, starts, length, time_zone } = self;
        let mut hash = Sha256::new();
        for part in [feature, name, *unit, *starts, length, time_zone] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.finalize()[..8]);
        CounterKey(u64::from_be_bytes(bytes))
    }
}

impl CounterKey {
    /// The key of the balance of this name.
    pub fn of_balance(name: &str) -> Self {
        Identity::balance(name).key()
    }

    /// The key of what an account was forgiven of a feature in a UTC month.
    pub(in crate::policy) fn of_forgiven(feature: &str) -> Self {
        Identity::forgiven(feature).key()
    }
}

impl Keys {
    /// The key of an identity. The same part of several plans has one key; two different parts that would share one
    /// are reported, since they would count into each other.
    pub(super) fn give(
        &mut self,
        role: &'static str,
        identity: &Identity,
        at: &Place,
        problems: &mut Sink<'_>,
    ) -> CounterKey {
        let key = identity.key();
        let owner = self.taken.entry(key).or_insert_with(|| Owner {
            role,
            identity: identity.clone(),
            line: at.line,
        });
        if owner.role != role || owner.identity != *identity {
            let found = format!(
                "the same counter as {} {} in line {}",
                owner.role,
                quoted(&owner.identity.name),
                owner.line
            );
            problems.report(at, found, "a counter of its own").hint("give one of them another name");
        }
        key
    }
}

#[cfg(test)]
mod tests;
