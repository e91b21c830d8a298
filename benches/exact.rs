//! Counts that have to be exact, whatever happens at once.

mod counts;
mod mean;

use crate::support::report::Figure;
use crate::support::settings::Settings;

/// All counts.
pub(crate) fn figures(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let mut figures = counts::figures(settings)?;
    figures.extend(mean::figures(settings)?);
    Ok(figures)
}
