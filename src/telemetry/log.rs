//! Logs: `tracing` events on standard error, as text for people or JSON for programs.
//!
//! Whatever the filter says, libraries tell nothing below `info`: the proxy's would print whole requests there, keys
//! included.

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::util::TryInitError;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// A level (`info`) or filter directives (`info,overfall::settle=debug`). `RUST_LOG` wins where it is set.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".to_owned() }
    }
}

/// Starts logging. What libraries log through `log` is included; panics are logged and counted.
pub fn init_logs(settings: &LogSettings) -> Result<(), TryInitError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(&settings.filter));
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_told));
    match settings.format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            registry
                .with(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())))
                .try_init()?;
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json();
            registry.with(layer.flatten_event(true)).try_init()?;
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        ::metrics::counter!("overfall_panics_total").increment(1);
        tracing::error!(panic = %panic, "a task panicked");
    }));
    Ok(())
}

/// What the client of Redis says of a node that is away, a hundred times in a second, is told by whoever asked.
fn may_be_told(about: &Metadata<'_>) -> bool {
    let is_ours = about.target().starts_with("overfall");
    is_ours || (*about.level() <= Level::INFO && !about.target().starts_with("redis::"))
}
