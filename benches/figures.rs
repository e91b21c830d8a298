//! The figures of the README: `cargo bench`, or `cargo bench -- core settle` for some sections.
//!
//! One run measures everything on one machine, so that figures can be compared; it takes a quarter of an hour.
//! `OVERFALL_BENCH=quick` takes two minutes and shows only that everything runs. Peers are processes of their own,
//! take turns, and all values of all rounds stand in `target/bench/figures.json`.
//!
//! | section | what |
//! |---|---|
//! | `core` | decision, meter, journal, memory of users: in one process |
//! | `exact` | counts that must be exact, on the real gateway |
//! | `gateway` | CPU, latency, streams, memory, start: beside bare Pingora and nginx |
//! | `settle` | journal to books |
//! | `audit` | books to proof |
//! | `many` | live counts in Redis, shared by several nodes |

#![expect(
    clippy::disallowed_methods,
    clippy::float_arithmetic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a bench measures by the machine's clock, computes ratios and prints them"
)]

mod audit;
mod core;
mod exact;
mod gateway;
mod many;
mod settle;
mod support;

use std::process::ExitCode;

use support::report::{Figure, Report};
use support::settings::Settings;
use support::{peers, roles};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Section = (&'static str, fn(&Settings) -> anyhow::Result<Vec<Figure>>);

const SECTIONS: [Section; 6] = [
    ("core", core::figures),
    ("exact", exact::figures),
    ("gateway", gateway::figures),
    ("settle", settle::figures),
    ("audit", audit::figures),
    ("many", many::figures),
];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [roles::ROLE, role, rest @ ..] => play(role, rest),
        // Test runners ask every target for its tests; there are none.
        words if words.contains(&"--list") => Ok(ExitCode::SUCCESS),
        words if words.contains(&"--bench") => {
            let chosen: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with('-')).collect();
            measure(&chosen)
        }
        _ => {
            println!("run by `cargo bench`");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn play(role: &str, arguments: &[&str]) -> anyhow::Result<ExitCode> {
    match (role, arguments) {
        (peers::BARE, [upstream]) => peers::serve_bare(upstream)?,
        (peers::CANNED, []) => peers::serve_canned()?,
        (peers::SIMULATED, []) => peers::serve_simulated()?,
        (core::users::USERS, [users, per_account]) => core::users::serve(users, per_account)?,
        _ => anyhow::bail!("no role {role} with {arguments:?}"),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(chosen: &[&str]) -> anyhow::Result<ExitCode> {
    let settings = Settings::from_env();
    let unknown = chosen.iter().find(|word| SECTIONS.iter().all(|(name, _)| name != *word));
    if let Some(word) = unknown {
        anyhow::bail!("no section `{word}`: core, exact, gateway, settle, audit, many");
    }
    support::settings::allow_many_files()?;
    let mut report = Report::new(&settings);
    let mut failed = false;
    for (name, figures) in SECTIONS {
        if !chosen.is_empty() && !chosen.contains(&name) {
            continue;
        }
        eprintln!("measuring: {name}");
        match figures(&settings) {
            Ok(figures) => report.add(figures),
            Err(error) => {
                eprintln!("{name} could not be measured: {error:#}");
                failed = true;
            }
        }
    }
    println!("\n{report}");
    println!("All values: {}", report.write()?.display());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
