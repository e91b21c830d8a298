//! The `overfall` command.

use std::process::ExitCode;

use clap::Parser;
use overfall::cli::Command;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    overfall::cli::run(Command::parse())
}
