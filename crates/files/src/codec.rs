//! Plain, gzip or zstd: telling which, and decompressing as bytes arrive.

use zstd::stream::raw::{DParameter, Decoder as RawZstd, InBuffer, Operation, OutBuffer};

use crate::gzip::GzipDecoder;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b, 8];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// How a file is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    Zstd,
}

impl Kind {
    /// By the ending of the name.
    pub(crate) fn by_name(name: &str) -> Option<Kind> {
        let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "gz" | "gzip" => Some(Kind::Gzip),
            "zst" | "zstd" => Some(Kind::Zstd),
            _ => None,
        }
    }

    /// By name, else by the file's first bytes; `None` if too few of them are there to tell.
    pub(crate) fn detect(name: &str, head: &[u8]) -> Option<Kind> {
        if let Some(kind) = Kind::by_name(name) {
            return Some(kind);
        }
        for (magic, kind) in [(GZIP_MAGIC, Kind::Gzip), (ZSTD_MAGIC, Kind::Zstd)] {
            if head.starts_with(magic) {
                return Some(kind);
            }
            if magic.starts_with(head) {
                return None;
            }
        }
        Some(Kind::Plain)
    }
}

/// A decompressor that may stop and go on at any byte.
pub(crate) enum Decoder {
    Gzip(Box<GzipDecoder>),
    Zstd { raw: RawZstd<'static>, frames: u64, inside: bool },
}

/// What a call did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoded {
    /// Bytes of the input that were taken.
    pub(crate) taken: usize,
    /// More output may come without more input.
    pub(crate) more: bool,
}

impl Decoder {
    /// `None` for plain files. `resumed`: complete members or frames were read before.
    pub(crate) fn new(kind: Kind, resumed: bool) -> Result<Option<Decoder>, String> {
        Ok(match kind {
            Kind::Plain => None,
            Kind::Gzip => Some(Decoder::Gzip(Box::new(GzipDecoder::new(resumed)))),
            Kind::Zstd => {
                let mut raw = RawZstd::new().map_err(|error| error.to_string())?;
                // Files written with --long are read too; memory is taken only if a file asks for it.
                raw.set_parameter(DParameter::WindowLogMax(31)).map_err(|error| error.to_string())?;
                Some(Decoder::Zstd { raw, frames: u64::from(resumed), inside: false })
            }
        })
    }

    /// True where the file may end without missing anything.
    pub(crate) fn at_border(&self) -> bool {
        match self {
            Decoder::Gzip(gzip) => gzip.at_border(),
            Decoder::Zstd { frames, inside, .. } => *frames > 0 && !inside,
        }
    }

    /// Decodes some of `input`, appending at most `limit` bytes. An error says at which byte of `input` and what.
    pub(crate) fn decode(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<Decoded, (usize, String)> {
        out.reserve(limit);
        let taken = match self {
            Decoder::Gzip(gzip) => gzip.decode(input, out)?,
            Decoder::Zstd { raw, frames, inside } => {
                let mut source = InBuffer::around(input);
                let start = out.len();
                let mut target = OutBuffer::around_pos(out, start);
                let result = raw.run(&mut source, &mut target);
                let written = target.pos() - start;
                let taken = source.pos();
                match result {
                    Ok(0) => {
                        *frames += 1;
                        *inside = false;
                        raw.reinit().map_err(|error| (taken, error.to_string()))?;
                    }
                    Ok(_) => *inside = *inside || taken > 0 || written > 0,
                    Err(error) => return Err((taken, format!("its zstd data is broken ({error})"))),
                }
                taken
            }
        };
        Ok(Decoded { taken, more: out.len() == out.capacity() })
    }
}
