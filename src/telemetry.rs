//! What the gateway tells its operators: structured logs and metrics.
//!
//! Messages are constant lowercase phrases, data stands in fields. An error is logged once, with its whole chain;
//! clients never see it. No secret is ever a field: the types that hold one do not print it.

mod log;
mod metrics;

use std::error::Error;
use std::fmt;

pub use log::{LogFormat, LogSettings, init_logs};
pub use metrics::{Exposition, install_metrics};

/// An error with everything that caused it, for the log: `a: b: c`.
pub fn chain<'a>(error: &'a (dyn Error + 'a)) -> impl fmt::Display + 'a {
    struct Chain<'a>(&'a (dyn Error + 'a));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}", self.0)?;
            let mut cause = self.0.source();
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
            Ok(())
        }
    }
    Chain(error)
}
