//! Pingora without a gateway in it: what forwarding alone costs. Same allocator, same profile, same threads.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::{HttpPeer, ProxyHttp, Session};
use pingora::proxy::http_proxy_service;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};

use crate::support::process::free_port;
use crate::support::roles;

struct PassThrough(SocketAddr);

#[async_trait]
impl ProxyHttp for PassThrough {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut Self::CTX) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}

struct Orphaned;

#[async_trait]
impl ShutdownSignalWatch for Orphaned {
    async fn recv(&self) -> ShutdownSignal {
        roles::orphaned().await;
        ShutdownSignal::FastShutdown
    }
}

/// The role.
pub(crate) fn serve(upstream: &str) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let conf = ServerConf { threads, upstream_keepalive_pool_size: 512, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, PassThrough(upstream.parse()?));
    let port = free_port()?;
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    roles::tell_port(port)?;
    server.run(RunArgs { shutdown_signal: Box::new(Orphaned) });
    Ok(())
}
