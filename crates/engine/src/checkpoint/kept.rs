//! Rows staged for outside targets: how long they stay after their commit.
//!
//! **Owns** which of them are cleared away, and the note of it. **Does not own** what they are for: delivery, and repair.
//!
//! I1: they are cleared in the order of epochs, so what is kept is every epoch from one on.
//! I2: the note is written before a file is removed: a file that is missing without it was lost.
//! I3: what a sink is still owed is never cleared.

use watershed_protocol::{FORMAT, Kept, Paths, open, seal};
use watershed_types::{Epoch, Result};

use super::Checkpoint;

/// How much of what was staged for outside targets is kept after its commit, for `watershed verify --repair`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepStaged {
    /// The rows of so many epochs.
    pub epochs: u64,
    /// No more than so many bytes of them.
    pub bytes: u64,
}

impl Default for KeepStaged {
    fn default() -> Self {
        Self { epochs: 64, bytes: 1 << 30 }
    }
}

impl Checkpoint {
    /// The first epoch whose staged rows are kept; [`Epoch::ZERO`] if none were ever cleared away.
    pub fn kept_from(&self) -> Result<Epoch> {
        let Some(bytes) = self.store.get(Paths::KEPT)? else { return Ok(Epoch::ZERO) };
        open::<Kept>(&self.store.describe(Paths::KEPT), &bytes).map(|kept| kept.from)
    }

    /// Clears away what is beyond `keep`, up to the complete epoch `last`.
    pub(super) fn clear_staged(&self, last: Epoch, keep: KeepStaged, owed: Option<Epoch>) -> Result<()> {
        let files: Vec<(u64, String, u64)> = self
            .store
            .list_sizes(Paths::STAGED)?
            .into_iter()
            .filter_map(|(name, bytes)| Some((Paths::number(&name)?, name, bytes)))
            .filter(|(epoch, _, _)| *epoch <= last.0)
            .collect();
        let Some((oldest, _, _)) = files.first() else { return Ok(()) };
        let from = first_kept(&files, last, keep).min(owed.unwrap_or(last.next()).0);
        // In strides: the note is a file that has to reach the disk.
        let stride = if keep.epochs == 0 { 1 } else { (keep.epochs / 8).max(1) };
        let over = files.iter().map(|(_, _, bytes)| bytes).sum::<u64>() > keep.bytes;
        if from <= *oldest || (from < oldest + stride && !over) {
            return Ok(());
        }
        if self.kept_from()?.0 < from {
            self.store.put(Paths::KEPT, &seal(&Kept { format: FORMAT, from: Epoch(from) })?)?; // I2
        }
        for (_, name, _) in files.iter().filter(|(epoch, _, _)| *epoch < from) {
            self.store.delete(&format!("{}/{name}", Paths::STAGED))?;
        }
        Ok(())
    }
}

/// The first epoch to keep. `files` rise by epoch.
fn first_kept(files: &[(u64, String, u64)], last: Epoch, keep: KeepStaged) -> u64 {
    let by_count = (last.0 + 1).saturating_sub(keep.epochs);
    let mut bytes = 0;
    for (epoch, _, size) in files.iter().rev() {
        bytes += size;
        if bytes > keep.bytes {
            return by_count.max(epoch + 1);
        }
    }
    by_count
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn rows_go_in_order_by_number_and_by_bytes_and_never_before_they_were_delivered() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = Checkpoint::open_or_create(Store::Local(folder.path().to_owned()), "p", 4, 0).expect("made");
        let put = |epoch: u64, bytes: usize| checkpoint.store.put(&Paths::staged(Epoch(epoch), watershed_types::Generation(1), "s", 0), &vec![0; bytes]).expect("put");
        let left = || -> Vec<u64> { checkpoint.store.list(Paths::STAGED).expect("lists").iter().filter_map(|name| Paths::number(name)).collect() };
        (1..=20).for_each(|epoch| put(epoch, 10));
        let keep = KeepStaged { epochs: 8, bytes: 1_000 };
        checkpoint.clear_staged(Epoch(20), keep, Some(Epoch(3))).expect("cleared");
        assert_eq!(left().first(), Some(&3), "a sink is owed epoch 3");
        checkpoint.clear_staged(Epoch(20), keep, None).expect("cleared");
        assert_eq!((left(), checkpoint.kept_from().expect("noted")), ((13..=20).collect(), Epoch(13)));
        put(21, 985);
        checkpoint.clear_staged(Epoch(21), keep, None).expect("cleared");
        assert_eq!((left(), checkpoint.kept_from().expect("noted")), (vec![20, 21], Epoch(20)));
        put(22, 2_000);
        checkpoint.clear_staged(Epoch(22), keep, None).expect("cleared");
        assert_eq!((left(), checkpoint.kept_from().expect("noted")), (vec![], Epoch(23)), "one that alone is too large is not kept");
    }
}
