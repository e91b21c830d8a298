//! The policy in force, and those that open holds were decided by.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::compiled::Policy;
use crate::units::PolicyVersion;

/// The policy in force; every request loads it once and keeps what it loaded.
#[derive(Debug)]
pub struct Policies {
    current: ArcSwap<Policy>,
    known: Mutex<HashMap<PolicyVersion, Arc<Policy>>>,
}

impl Policies {
    /// Begins with one policy.
    pub fn new(policy: Arc<Policy>) -> Self {
        let known = HashMap::from([(policy.version, Arc::clone(&policy))]);
        Self { current: ArcSwap::new(policy), known: Mutex::new(known) }
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        self.current.load_full()
    }

    /// Puts a policy in force. Requests in flight end under the one they began with.
    pub fn replace(&self, policy: Arc<Policy>) {
        self.remember(Arc::clone(&policy));
        self.current.store(policy);
    }

    /// Keeps a policy at hand without putting it in force.
    pub fn remember(&self, policy: Arc<Policy>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(policy.version, policy);
    }

    /// A policy by version.
    pub fn version(&self, version: PolicyVersion) -> Option<Arc<Policy>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
    }
}
