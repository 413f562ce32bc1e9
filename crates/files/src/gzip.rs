//! gzip, member by member, fed with whatever has arrived.
//!
//! **Owns** the framing of RFC 1952 (header, checksum, several members in a file). **Does not own** inflating: flate2.
//! The library's own readers treat the end of input as final; a growing file needs one that simply goes on.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// No sane header (name and comment included) is longer.
const MAX_HEADER: usize = 128 << 10;

enum Stage {
    Header(Vec<u8>),
    Body,
    Trailer(Vec<u8>),
}

/// A gzip stream that may stop and go on at any byte.
pub(crate) struct GzipDecoder {
    stage: Stage,
    inflate: Decompress,
    crc: Crc,
    members: u64,
}

impl GzipDecoder {
    pub(crate) fn new(resumed: bool) -> Self {
        Self { stage: Stage::Header(Vec::new()), inflate: Decompress::new(false), crc: Crc::new(), members: u64::from(resumed) }
    }

    /// True between members: a file that ends here is complete.
    pub(crate) fn at_border(&self) -> bool {
        self.members > 0 && matches!(&self.stage, Stage::Header(seen) if seen.is_empty())
    }

    /// Takes some of `input` and appends what it yields to `out`, within the capacity `out` has. Returns how much
    /// was taken; an error says what is wrong at that byte.
    pub(crate) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, (usize, String)> {
        match &mut self.stage {
            Stage::Header(seen) => {
                if seen.is_empty() && self.members > 0 {
                    // Padding after a member (tapes, block devices) is allowed.
                    let zeros = input.iter().take_while(|byte| **byte == 0).count();
                    if zeros > 0 {
                        return Ok(zeros);
                    }
                }
                let had = seen.len();
                seen.extend_from_slice(&input[..input.len().min(512)]);
                match header_length(seen).map_err(|what| (0, what))? {
                    Some(length) => {
                        self.stage = Stage::Body;
                        self.inflate.reset(false);
                        self.crc.reset();
                        Ok(length - had)
                    }
                    None if seen.len() > MAX_HEADER => Err((0, "its gzip header does not end".to_owned())),
                    None => Ok(seen.len() - had),
                }
            }
            Stage::Body => {
                let (in_before, out_before) = (self.inflate.total_in(), out.len());
                let status = self.inflate.decompress_vec(input, out, FlushDecompress::None);
                let taken = (self.inflate.total_in() - in_before) as usize;
                self.crc.update(&out[out_before..]);
                match status {
                    Ok(Status::StreamEnd) => self.stage = Stage::Trailer(Vec::with_capacity(8)),
                    Ok(Status::Ok | Status::BufError) => {}
                    Err(error) => return Err((taken, format!("its deflate data is broken ({error})"))),
                }
                Ok(taken)
            }
            Stage::Trailer(seen) => {
                let taken = input.len().min(8 - seen.len());
                seen.extend_from_slice(&input[..taken]);
                if let [a, b, c, d, e, f, g, h] = seen[..] {
                    let crc = u32::from_le_bytes([a, b, c, d]);
                    let length = u32::from_le_bytes([e, f, g, h]);
                    if crc != self.crc.sum() || length != self.inflate.total_out() as u32 {
                        return Err((taken, "its gzip checksum does not fit its content".to_owned()));
                    }
                    self.members += 1;
                    self.stage = Stage::Header(Vec::new());
                }
                Ok(taken)
            }
        }
    }
}

/// The length of the header that starts here, `None` if it is not all there yet.
fn header_length(seen: &[u8]) -> Result<Option<usize>, String> {
    let magic = [0x1f, 0x8b, 8];
    if seen.iter().zip(magic).any(|(byte, expected)| *byte != expected) {
        return Err("no gzip member starts there".to_owned());
    }
    let Some(flags) = seen.get(3) else { return Ok(None) };
    let mut at = 10;
    if flags & 4 != 0 {
        let (Some(low), Some(high)) = (seen.get(10), seen.get(11)) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for bit in [8, 16] {
        if flags & bit != 0 {
            let Some(end) = seen.get(at..).and_then(|rest| memchr::memchr(0, rest)) else { return Ok(None) };
            at += end + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    Ok((seen.len() >= at).then_some(at))
}
