//! Names of what the gateway counts, and what they mean.

/// Names that did not resolve.
pub const RESOLVE_FAILURES: &str = "overfall_upstream_resolve_failures_total";
