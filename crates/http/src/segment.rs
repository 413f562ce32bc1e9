//! Segment files: their names, and reading frames from one of them.
//!
//! **Owns** the way from bytes to checked frames. **Does not own** which segments there are, nor writing.
//!
//! I1: a frame that leaves here has good checksums and the offset that belongs to its place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::frame::{FrameFault, FrameHeader, HEADER};

/// How much is read at once; a longer frame is read whole.
const BLOCK: u64 = 4 << 20;

/// The name of the segment that starts at this offset.
pub(crate) fn segment_name(base: u64) -> String {
    format!("{base:020}.log")
}

/// The offset in a segment's name, if it is one.
pub(crate) fn segment_base(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// A checked frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    pub(crate) payload: Bytes,
}

/// Why there is no frame.
#[derive(Debug)]
pub(crate) enum ReadFault {
    /// The file cannot be read.
    Io(io::Error),
    /// At [`FrameReader::pos`] is something else.
    Frame(FrameFault),
}

/// Reads one segment's frames in order.
pub(crate) struct FrameReader {
    file: File,
    path: PathBuf,
    base: u64,
    pos: u64,
    limit: u64,
    expected: u64,
    block: Bytes,
    block_pos: u64,
}

impl FrameReader {
    /// Opens the segment `base` of `dir`; bytes at or after `limit` are never looked at.
    pub(crate) fn open(dir: &Path, base: u64, limit: u64) -> io::Result<Self> {
        let path = dir.join(segment_name(base));
        let file = File::open(&path)?;
        Ok(Self { file, path, base, pos: 0, limit, expected: base, block: Bytes::new(), block_pos: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
    /// The segment's first offset.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }
    /// The byte of the next frame; after a fault, of the damaged one.
    pub(crate) fn pos(&self) -> u64 {
        self.pos
    }
    /// The offset that the next frame must start with.
    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }
    /// The segment grew.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }
    /// Goes to a frame whose place and first offset are known.
    pub(crate) fn go(&mut self, pos: u64, offset: u64) {
        self.pos = pos;
        self.expected = offset;
    }

    /// The next frame, `None` at the limit.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadFault> {
        let Some(header) = self.peek()? else { return Ok(None) };
        let len = header.frame_len();
        if self.limit - self.pos < len {
            return Err(ReadFault::Frame(FrameFault::Short));
        }
        let payload = self.view(len)?.slice(HEADER..);
        header.verify(&payload).map_err(ReadFault::Frame)?;
        self.step(&header);
        Ok(Some(Frame { header, payload }))
    }

    /// Passes frames, by their headers, until the next one holds `offset` (or to the limit).
    pub(crate) fn skip_to(&mut self, offset: u64) -> Result<(), ReadFault> {
        while let Some(header) = self.peek()? {
            if header.end_offset() > offset {
                break;
            }
            if self.limit - self.pos < header.frame_len() {
                return Err(ReadFault::Frame(FrameFault::Short));
            }
            self.step(&header);
        }
        Ok(())
    }

    /// Everything from `pos` to the limit, in one piece.
    pub(crate) fn rest(&self) -> io::Result<Vec<u8>> {
        let mut rest = vec![0; (self.limit - self.pos) as usize];
        self.file.read_exact_at(&mut rest, self.pos)?;
        Ok(rest)
    }

    fn peek(&mut self) -> Result<Option<FrameHeader>, ReadFault> {
        if self.pos == self.limit {
            return Ok(None);
        }
        if self.limit.saturating_sub(self.pos) < HEADER as u64 {
            return Err(ReadFault::Frame(FrameFault::Short));
        }
        let header = FrameHeader::decode(&self.view(HEADER as u64)?).map_err(ReadFault::Frame)?;
        if header.base_offset != self.expected {
            let fault = FrameFault::Sequence { expected: self.expected, found: header.base_offset };
            return Err(ReadFault::Frame(fault));
        }
        Ok(Some(header))
    }

    fn step(&mut self, header: &FrameHeader) {
        self.pos += header.frame_len();
        self.expected = header.end_offset();
    }

    /// The `len` bytes at `pos`; the caller has compared them with the limit.
    fn view(&mut self, len: u64) -> Result<Bytes, ReadFault> {
        let block_end = self.block_pos + self.block.len() as u64;
        if self.pos < self.block_pos || self.pos + len > block_end {
            let wanted = len.max(BLOCK).min(self.limit - self.pos);
            let mut block = vec![0; wanted as usize];
            self.file.read_exact_at(&mut block, self.pos).map_err(|error| match error.kind() {
                // The published length says more than the file holds: somebody cut it.
                io::ErrorKind::UnexpectedEof => ReadFault::Frame(FrameFault::Short),
                _ => ReadFault::Io(error),
            })?;
            self.block = Bytes::from(block);
            self.block_pos = self.pos;
        }
        let start = (self.pos - self.block_pos) as usize;
        Ok(self.block.slice(start..start + len as usize))
    }
}
