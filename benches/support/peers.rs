//! What the gateway is measured against, and what stands behind all of them.

mod bare;
mod canned;
mod nginx;

use std::net::{Ipv4Addr, SocketAddr};

use overfall::simulate;

use super::process::Process;
use super::roles;

pub(crate) use nginx::Nginx;

/// The role of a bare Pingora pass-through.
pub(crate) const BARE: &str = "bare";
/// The role of an upstream with one answer.
pub(crate) const CANNED: &str = "canned";
/// The role of the simulated upstream.
pub(crate) const SIMULATED: &str = "simulated";

pub(crate) use bare::serve as serve_bare;
pub(crate) use canned::serve as serve_canned;

/// A bare Pingora pass-through in front of `upstream`.
pub(crate) fn bare(upstream: SocketAddr) -> anyhow::Result<(Process, SocketAddr)> {
    let (process, addr) = roles::listening(BARE, &[upstream.to_string()])?;
    super::process::wait_for(addr)?;
    Ok((process, addr))
}

/// The upstream for JSON under load. The simulated one reads requests and makes up answers, which costs more than a
/// gateway does: on a small machine there would be no load left to measure with. This one is nginx's `return 200`
/// with ids of its own, and needs no nginx.
pub(crate) fn canned() -> anyhow::Result<(Process, SocketAddr)> {
    roles::listening(CANNED, &[])
}

/// The simulated upstream, for streams and for answers of many lengths.
pub(crate) fn simulated() -> anyhow::Result<(Process, SocketAddr)> {
    roles::listening(SIMULATED, &[])
}

/// The role [`SIMULATED`].
pub(crate) fn serve_simulated() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = simulate::Options { recorded_max: 0, stored_max: 0, ..simulate::Options::default() };
        let upstream = simulate::Upstream::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)?;
        roles::tell_port(upstream.local_addr().port())?;
        upstream.serve(roles::orphaned()).await;
        Ok(())
    })
}
