//! The few things the appender asks of a disk, so that tests can make each of them fail.
//!
//! **Owns** nothing but the calls. **Does not own** reading: readers use files directly.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::Path;

/// A file that only grows at its end, or is cut back.
pub(crate) trait SegmentFile: Send {
    /// Writes all parts at the end. On an error any number of bytes may have been written.
    fn append(&mut self, parts: &mut [IoSlice<'_>]) -> io::Result<()>;
    /// Returns when everything written is durable.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file to this length.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// A disk.
pub(crate) trait Disk: Send + Sync {
    /// Opens a segment for appending, making it if it is not there.
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Makes a folder's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The machine's disk.
pub(crate) struct LocalDisk;

impl Disk for LocalDisk {
    fn open_segment(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Box::new(LocalFile(file)))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct LocalFile(File);

impl SegmentFile for LocalFile {
    fn append(&mut self, mut parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        // One writev takes at most 1,024 parts and may write less than asked.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.0.write_vectored(parts) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
