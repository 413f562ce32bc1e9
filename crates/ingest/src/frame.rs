//! One frame: a header of 48 bytes and newline-terminated records.
//!
//! **Owns** the bytes of a frame. **Does not own** files.
//!
//! ```text
//!  0 "\n\nW" version │ 4 header crc32c │ 8 payload crc32c │ 12 payload length │ 16 records │ 20 zero
//! 24 base offset     │ 32 group start  │ 40 ingested_at (µs)                  │ 48 payload …
//! ```
//!
//! All numbers are little-endian. The header's checksum covers every other byte of the header, and so, through the
//! payload's checksum, the whole frame.
//!
//! I1: a payload never holds two newlines in a row (blank lines are no records), so the magic cannot occur in it,
//! whatever a client sends. A magic with a good header checksum *is* a frame's start.
//! I2: `group start` is the byte in the segment where the frames begin that were written and synced together. The next
//! group is written only after this one was synced; so a header whose group starts behind a damaged byte proves that
//! the damaged one had been acknowledged, and one whose group starts before it proves nothing.

use std::fmt;

/// Bytes of a header.
pub(crate) const HEADER: usize = 48;
/// How every frame starts; the version follows.
pub(crate) const MAGIC: [u8; 3] = *b"\n\nW";
/// The version this code writes and reads.
pub(crate) const VERSION: u8 = 1;

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) payload_crc: u32,
    pub(crate) payload_len: u32,
    pub(crate) records: u32,
    pub(crate) base_offset: u64,
    pub(crate) group_start: u64,
    pub(crate) ingested_at: i64,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// The file ends inside it.
    Short,
    /// It does not start as a frame does.
    Magic,
    /// Written by another version.
    Version(u8),
    /// The header's checksum is wrong.
    Header,
    /// The payload's checksum is wrong.
    Payload,
    /// A whole frame, but not the one that belongs here.
    Sequence { expected: u64, found: u64 },
}

impl fmt::Display for FrameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameFault::Short => f.write_str("the file ends inside a frame"),
            FrameFault::Magic => f.write_str("no frame starts there"),
            FrameFault::Version(version) => write!(f, "the frame has version {version}, this program reads {VERSION}"),
            FrameFault::Header => f.write_str("the frame header's checksum is wrong"),
            FrameFault::Payload => f.write_str("the records' checksum is wrong"),
            FrameFault::Sequence { expected, found } => {
                write!(f, "the frame holds offset {found} where {expected} was expected")
            }
        }
    }
}

impl FrameHeader {
    /// The whole frame's length.
    pub(crate) fn frame_len(&self) -> u64 {
        HEADER as u64 + u64::from(self.payload_len)
    }

    /// The offset after its last record.
    pub(crate) fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.records)
    }

    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..3].copy_from_slice(&MAGIC);
        out[3] = VERSION;
        out[8..12].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[12..16].copy_from_slice(&self.payload_len.to_le_bytes());
        out[16..20].copy_from_slice(&self.records.to_le_bytes());
        out[24..32].copy_from_slice(&self.base_offset.to_le_bytes());
        out[32..40].copy_from_slice(&self.group_start.to_le_bytes());
        out[40..48].copy_from_slice(&self.ingested_at.to_le_bytes());
        let crc = header_crc(&out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `bytes` holds at least [`HEADER`] of them, else the fault is [`FrameFault::Short`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FrameFault> {
        let header: &[u8; HEADER] = bytes.get(..HEADER).and_then(|b| b.try_into().ok()).ok_or(FrameFault::Short)?;
        if header[..3] != MAGIC {
            return Err(FrameFault::Magic);
        }
        if header_crc(header) != u32_at(header, 4) {
            return Err(FrameFault::Header);
        }
        if header[3] != VERSION {
            return Err(FrameFault::Version(header[3]));
        }
        Ok(Self {
            payload_crc: u32_at(header, 8),
            payload_len: u32_at(header, 12),
            records: u32_at(header, 16),
            base_offset: u64_at(header, 24),
            group_start: u64_at(header, 32),
            ingested_at: u64_at(header, 40) as i64,
        })
    }

    /// Compares the payload with the header's checksum.
    pub(crate) fn verify(&self, payload: &[u8]) -> Result<(), FrameFault> {
        match crc32c::crc32c(payload) == self.payload_crc {
            true => Ok(()),
            false => Err(FrameFault::Payload),
        }
    }
}

fn header_crc(header: &[u8; HEADER]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..])
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
