//! What every scenario stands on.

pub(crate) mod admin;
pub(crate) mod books;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod codex;
pub(crate) mod demo;
pub(crate) mod gateway;
pub(crate) mod packages;
pub(crate) mod policies;
pub(crate) mod ports;
#[path = "../../benches/support/postgres.rs"]
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod shared;
pub(crate) mod tap;
pub(crate) mod upstream;
pub(crate) mod wait;
pub(crate) mod workspace;

pub(crate) use admin::Caller;
pub(crate) use client::{Answer, Client};
pub(crate) use gateway::{Gateway, Setup};
pub(crate) use upstream::Simulated;
pub(crate) use wait::{PATIENCE, eventually, until};
