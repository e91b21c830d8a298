//! Free ports, outside the range that outgoing connections take theirs from.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

const FIRST: u16 = 12_000;
const LAST: u16 = 32_000;

/// An address on this machine that nobody listens on. Another process may take it first: who listens tries again.
pub(crate) fn free() -> SocketAddr {
    for _ in 0..1000 {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(FIRST..LAST)));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
