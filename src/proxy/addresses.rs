//! The addresses behind one host name, used in turn.
//!
//! A name may have addresses that this machine cannot reach: of a family that its network does not carry, or of a
//! server that is away. One that no connection could be made to is left alone for a while, as long as there is another;
//! and the two families take turns (RFC 8305, section 4), so that a second try is one by the other family.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

/// How long an address is left alone after it could not be reached.
const AVOIDED_FOR: Duration = Duration::from_mins(1);

/// The addresses of one upstream.
#[derive(Debug)]
pub(super) struct Addresses {
    list: ArcSwap<Vec<Address>>,
    turn: AtomicUsize,
    began: Instant,
}

#[derive(Debug)]
struct Address {
    socket: SocketAddr,
    /// In milliseconds since `began`; 0: not avoided.
    avoided_until_ms: AtomicU64,
}

impl Addresses {
    pub(super) fn new(known: Option<SocketAddr>) -> Self {
        let list = known.map(|socket| Address { socket, avoided_until_ms: AtomicU64::new(0) });
        Self {
            list: ArcSwap::from_pointee(list.into_iter().collect()),
            turn: AtomicUsize::new(0),
            began: Instant::now(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.load().is_empty()
    }

    /// The next one. Where all are avoided, they are tried as if none were. `None`: none is known yet.
    pub(super) fn next(&self) -> Option<SocketAddr> {
        let list = self.list.load();
        if list.len() < 2 {
            return list.first().map(|only| only.socket);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(list.len())?;
        let now_ms = self.now_ms();
        let mut in_turn = list.iter().cycle().skip(turn).take(list.len());
        let usable = in_turn.find(|address| address.avoided_until_ms.load(Ordering::Relaxed) <= now_ms);
        usable.or(list.get(turn)).map(|address| address.socket)
    }

    /// Leaves an address alone for a while: no connection could be made to it.
    pub(super) fn avoid(&self, socket: &SocketAddr) {
        let until_ms = self.now_ms() + millis(AVOIDED_FOR);
        if let Some(address) = self.list.load().iter().find(|address| address.socket == *socket) {
            address.avoided_until_ms.store(until_ms, Ordering::Relaxed);
        }
    }

    /// Takes what the name resolves to now. What is avoided stays so.
    pub(super) fn set(&self, mut found: Vec<SocketAddr>) {
        found.sort_unstable();
        found.dedup();
        let known = self.list.load();
        let address = |socket: SocketAddr| {
            let before = known.iter().find(|address| address.socket == socket);
            let until_ms = before.map_or(0, |address| address.avoided_until_ms.load(Ordering::Relaxed));
            Address { socket, avoided_until_ms: AtomicU64::new(until_ms) }
        };
        self.list.store(Arc::new(by_turns(&found).into_iter().map(address).collect()));
    }

    fn now_ms(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One of a family, one of the other, for as long as both have some.
fn by_turns(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let (four, six): (Vec<_>, Vec<_>) = found.iter().copied().partition(SocketAddr::is_ipv4);
    let (mut four, mut six) = (four.into_iter(), six.into_iter());
    let mut all = Vec::with_capacity(found.len());
    loop {
        let before = all.len();
        all.extend(four.next());
        all.extend(six.next());
        if all.len() == before {
            return all;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(all: &[&str]) -> Vec<SocketAddr> {
        all.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn taken(addresses: &Addresses, count: usize) -> Vec<SocketAddr> {
        (0..count).filter_map(|_| addresses.next()).collect()
    }

    #[test]
    fn addresses_take_turns_and_so_do_families() {
        let addresses = Addresses::new(None);
        assert_eq!((addresses.next(), addresses.is_empty()), (None, true));
        addresses.set(sockets(&["[::2]:1", "1.0.0.1:1", "[::1]:1", "1.0.0.2:1", "1.0.0.3:1", "1.0.0.1:1"]));
        let all = sockets(&["1.0.0.1:1", "[::1]:1", "1.0.0.2:1", "[::2]:1", "1.0.0.3:1"]);
        assert_eq!(taken(&addresses, 10), [all.clone(), all].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_cannot_be_reached_is_left_alone_for_a_while_also_when_the_name_is_resolved_anew()
    {
        let addresses = Addresses::new(None);
        let all = sockets(&["1.0.0.1:1", "[::1]:1"]);
        addresses.set(all.clone());
        addresses.avoid(&all[1]);
        addresses.set(all.clone());
        assert_eq!(taken(&addresses, 4), vec![all[0]; 4]);
        tokio::time::advance(AVOIDED_FOR).await;
        assert_eq!(taken(&addresses, 2).len(), 2);
        assert!(taken(&addresses, 2).contains(&all[1]), "it has its turn again");
    }

    #[tokio::test(start_paused = true)]
    async fn where_none_can_be_reached_all_are_tried_and_a_single_one_always_is() {
        let addresses = Addresses::new(None);
        let all = sockets(&["1.0.0.1:1", "[::1]:1"]);
        addresses.set(all.clone());
        for socket in &all {
            addresses.avoid(socket);
        }
        assert_eq!(taken(&addresses, 2), all);
        let single = Addresses::new(Some(all[0]));
        single.avoid(&all[0]);
        assert_eq!(single.next(), Some(all[0]));
    }
}
