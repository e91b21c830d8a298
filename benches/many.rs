//! The meter of many machines: what Redis costs beside the embedded one, and one account that everybody uses.

mod hot;
mod nodes;
mod single;

use crate::support::report::Figure;
use crate::support::settings::Settings;

const SECTION: &str = "Live counts in Redis, on this machine";

/// All figures of the meter on Redis.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut figures = single::figures(settings).await?;
        figures.extend(hot::figures(settings).await?);
        Ok(figures)
    })
}
