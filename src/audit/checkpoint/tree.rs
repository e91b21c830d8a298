//! A Merkle tree as in RFC 6962, of which only the right edge is kept, and the ways of chosen leaves to its root.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Names a leaf whose way is asked for.
pub type Mark = u8;

/// One step on the way from a leaf to the root: what stands beside it, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// On its left.
    Left(String),
    /// On its right.
    Right(String),
}

/// A tree that grows leaf by leaf.
#[derive(Debug, Default)]
pub struct Tree {
    edge: Vec<Node>,
    leaves: u64,
    ways: Vec<(Mark, Vec<Step>)>,
}

#[derive(Debug)]
struct Node {
    height: u32,
    hash: [u8; 32],
    marks: Vec<Mark>,
}

/// A whole tree.
#[derive(Debug)]
pub struct Finished {
    /// Its root.
    pub root: [u8; 32],
    /// The ways that were asked for.
    pub ways: Vec<(Mark, Vec<Step>)>,
}

impl Tree {
    /// Adds a leaf by its hash; with a mark, its way is told at the end.
    pub fn push(&mut self, hash: [u8; 32], mark: Option<Mark>) {
        self.leaves += 1;
        self.ways.extend(mark.map(|mark| (mark, Vec::new())));
        self.edge.push(Node { height: 0, hash, marks: mark.into_iter().collect() });
        while let [.., left, right] = &self.edge[..]
            && left.height == right.height
        {
            self.join();
        }
    }

    /// How many leaves it has.
    pub const fn len(&self) -> u64 {
        self.leaves
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.leaves == 0
    }

    /// Its root; that of no leaves is the hash of nothing.
    pub fn finish(mut self) -> Finished {
        while self.edge.len() > 1 {
            self.join();
        }
        let root = self.edge.pop().map_or_else(|| Sha256::digest([]).into(), |node| node.hash);
        Finished { root, ways: self.ways }
    }

    fn join(&mut self) {
        let (Some(right), Some(left)) = (self.edge.pop(), self.edge.pop()) else { return };
        for (mark, way) in &mut self.ways {
            if left.marks.contains(mark) {
                way.push(Step::Right(hex::encode(right.hash)));
            } else if right.marks.contains(mark) {
                way.push(Step::Left(hex::encode(left.hash)));
            }
        }
        let marks = [left.marks, right.marks].concat();
        let hash = both(&left.hash, &right.hash);
        self.edge.push(Node { height: left.height.max(right.height) + 1, hash, marks });
    }
}

fn both(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// The root that a way leads to; `None` where a step is not a hash.
pub fn root_of(leaf: [u8; 32], way: &[Step]) -> Option<[u8; 32]> {
    way.iter().try_fold(leaf, |hash, step| {
        let (Step::Left(beside) | Step::Right(beside)) = step;
        let mut other = [0; 32];
        hex::decode_to_slice(beside, &mut other).ok()?;
        Some(match step {
            Step::Left(_) => both(&other, &hash),
            Step::Right(_) => both(&hash, &other),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962, section 2.1, by its recursive definition.
    fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                both(&root(&leaves[..split]), &root(&leaves[split..]))
            }
        }
    }

    #[test]
    fn the_tree_is_that_of_the_rfc_and_every_way_leads_to_its_root() {
        for count in 0..40u8 {
            let leaves: Vec<[u8; 32]> = (0..count).map(|nth| [nth; 32]).collect();
            let mut tree = Tree::default();
            for (leaf, mark) in leaves.iter().zip(0..) {
                tree.push(*leaf, Some(mark));
            }
            assert_eq!((tree.len(), tree.is_empty()), (u64::from(count), count == 0));
            let finished = tree.finish();
            assert_eq!(finished.root, root(&leaves));
            assert_eq!(finished.ways.len(), leaves.len());
            for (mark, way) in &finished.ways {
                assert_eq!(root_of([*mark; 32], way), Some(finished.root), "leaf {mark} of {count}");
                assert!(way.is_empty() || root_of([99; 32], way) != Some(finished.root));
            }
        }
    }
}
