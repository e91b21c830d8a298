//! A disk in memory that fails, stops, and loses what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::journal::storage::{Storage, StoredFile};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    resumed: Arc<Condvar>,
}

/// What a power cut leaves of the writes since the last sync.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// All: as after `kill -9`.
    KeepsAll,
    LosesAll,
    /// Of each write nothing, all, the beginning, or some sectors.
    Tears {
        seed: u64,
    },
}

#[derive(Default)]
struct State {
    names: Vec<BTreeMap<String, usize>>,
    nodes: Vec<Node>,
    /// Operations that change something, so far.
    operations: u64,
    /// From this operation on, which may be done in part, everything fails.
    stop_at: Option<u64>,
    /// How many of the next file syncs fail, and lose what they were to make durable.
    failing_syncs: u32,
    /// So does the sync of a file if it is the n-th, 2n-th … operation.
    failing_syncs_every: Option<u64>,
    /// How many of the next writes fail, half done.
    failing_writes: u32,
    /// Syncs block while set.
    paused: bool,
    /// Bytes that all files together may have.
    capacity: Option<u64>,
}

#[derive(Clone, Default)]
struct Node {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
    length_durable: usize,
}

struct NodeFile {
    disk: Disk,
    node: usize,
}

impl Disk {
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn stop_at(&self, operation: u64) {
        self.state().stop_at = Some(operation);
    }

    pub(crate) fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    pub(crate) fn fail_syncs_every(&self, operations: u64) {
        self.state().failing_syncs_every = Some(operations);
    }

    pub(crate) fn fail_writes(&self, count: u32) {
        self.state().failing_writes = count;
    }

    pub(crate) fn limit(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    /// Whether nothing is set to fail.
    pub(crate) fn is_well(&self) -> bool {
        let state = self.state();
        state.failing_syncs == 0 && state.failing_writes == 0 && state.capacity.is_none()
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        let state = self.state();
        state.current().values().map(|node| state.nodes[*node].now.len() as u64).sum()
    }

    /// Has every sync block until told otherwise.
    pub(crate) fn pause(&self, paused: bool) {
        self.state().paused = paused;
        self.resumed.notify_all();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.state().current().keys().cloned().collect()
    }

    /// Changes bytes of a file behind the journal's back.
    pub(crate) fn overwrite(&self, name: &str, offset: usize, with: &[u8]) {
        let mut state = self.state();
        let node = state.current()[name];
        state.nodes[node].now[offset..offset + with.len()].copy_from_slice(with);
        state.nodes[node].durable = state.nodes[node].now.clone();
    }

    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.nodes[state.current()[name]].now.clone()
    }

    /// The disk that is found when power comes back.
    pub(crate) fn after(&self, cut: Cut) -> Self {
        let state = self.state();
        let mut random = match cut {
            Cut::Tears { seed } => Some(StdRng::seed_from_u64(seed)),
            Cut::KeepsAll | Cut::LosesAll => None,
        };
        let keeps_all = matches!(cut, Cut::KeepsAll);
        let names_kept = match &mut random {
            Some(random) => random.random_range(0..state.names.len().max(1)),
            None if keeps_all => state.names.len().saturating_sub(1),
            None => 0,
        };
        let names = state.names.get(names_kept).cloned().unwrap_or_default();
        let nodes = state.nodes.iter().map(|node| {
            let mut image = node.durable.clone();
            image.resize(if keeps_all { node.now.len() } else { node.length_durable }, 0);
            for (offset, bytes) in &node.unsynced {
                match &mut random {
                    Some(random) => tear(&mut image, *offset, bytes, random),
                    None if keeps_all => apply(&mut image, *offset, bytes),
                    None => {}
                }
            }
            if keeps_all {
                image.clone_from(&node.now);
            }
            Node { now: image.clone(), length_durable: image.len(), durable: image, unsynced: Vec::new() }
        });
        let after = State { nodes: nodes.collect(), names: vec![names], ..State::default() };
        Self { state: Arc::new(Mutex::new(after)), resumed: Arc::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change_names(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let mut names = state.current().clone();
        change(&mut names)?;
        if state.names.is_empty() {
            state.names.push(BTreeMap::new());
        }
        state.names.push(names);
        Ok(())
    }
}

impl State {
    /// The last of the states that names had since the last sync of the folder.
    fn current(&self) -> &BTreeMap<String, usize> {
        static NONE: BTreeMap<String, usize> = BTreeMap::new();
        self.names.last().unwrap_or(&NONE)
    }

    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.stop_at {
            Some(at) if self.operations >= at => Err(io::Error::other("the disk has stopped")),
            _ => Ok(()),
        }
    }
}

fn apply(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

fn tear(image: &mut Vec<u8>, offset: usize, bytes: &[u8], random: &mut StdRng) {
    match random.random_range(0..4) {
        0 => {}
        1 => apply(image, offset, bytes),
        2 => apply(image, offset, &bytes[..random.random_range(0..=bytes.len())]),
        _ => {
            // Sectors are those of the file.
            let mut at = 0;
            while at < bytes.len() {
                let sector_end = ((offset + at) / 512 + 1) * 512 - offset;
                let end = sector_end.min(bytes.len());
                if random.random() {
                    apply(image, offset + at, &bytes[at..end]);
                }
                at = end;
            }
        }
    }
}

impl Storage for Disk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let node = {
            let mut state = self.state();
            state.nodes.push(Node::default());
            state.nodes.len() - 1
        };
        self.change_names(|names| {
            names.insert(name.to_owned(), node);
            Ok(())
        })?;
        Ok(Arc::new(NodeFile { disk: self.clone(), node }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StoredFile>> {
        let node = *self.state().current().get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(NodeFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change_names(|names| {
            let node = names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            names.insert(to.to_owned(), node);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change_names(|names| names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let current = state.current().clone();
        state.names = vec![current];
        Ok(())
    }
}

impl StoredFile for NodeFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.disk.state().nodes[self.node].now.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let from = state.nodes[self.node].now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let bytes = from.len().min(into.len());
        into[..bytes].copy_from_slice(&from[..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let stopped_before = state.stop_at.is_some_and(|at| state.operations >= at);
        let mut outcome = state.operate();
        let mut bytes = from;
        if state.failing_writes > 0 {
            state.failing_writes -= 1;
            bytes = &from[..from.len() / 2];
            outcome = Err(io::Error::other("the disk fails to write"));
        }
        if !stopped_before {
            let offset = usize::try_from(offset).unwrap();
            let node = &mut state.nodes[self.node];
            apply(&mut node.now, offset, bytes);
            node.unsynced.push((offset, bytes.to_vec()));
        }
        outcome
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let used = self.disk.used_bytes();
        let mut state = self.disk.state();
        state.operate()?;
        let node = &state.nodes[self.node];
        let more = bytes.saturating_sub(node.now.len() as u64);
        if state.capacity.is_some_and(|capacity| more > 0 && used + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let node = &mut state.nodes[self.node];
        let bytes = usize::try_from(bytes).unwrap().max(node.now.len());
        node.now.resize(bytes, 0);
        Ok(())
    }

    fn cut(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate()?;
        state.nodes[self.node].now.truncate(usize::try_from(bytes).unwrap());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        while state.paused {
            state = self.disk.resumed.wait(state).unwrap();
        }
        state.operate()?;
        let fails = state.failing_syncs_every.is_some_and(|every| state.operations.is_multiple_of(every));
        if fails || state.failing_syncs > 0 {
            state.failing_syncs = state.failing_syncs.saturating_sub(1);
            // The kernel drops the pages and calls them clean: they can be read, and no later sync writes them.
            state.nodes[self.node].unsynced.clear();
            return Err(io::Error::other("the disk fails to sync"));
        }
        let node = &mut state.nodes[self.node];
        node.length_durable = node.now.len();
        node.durable.resize(node.length_durable, 0);
        for (offset, bytes) in std::mem::take(&mut node.unsynced) {
            if offset < node.length_durable {
                let end = bytes.len().min(node.length_durable - offset);
                apply(&mut node.durable, offset, &bytes[..end]);
            }
        }
        Ok(())
    }
}
