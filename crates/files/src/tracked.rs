//! One file: how far it was read, and what is read but not yet delivered.
//!
//! **Owns** the way from raw bytes to whole records of one file, and the judgement of its end.
//! **Does not own** which file comes next.
//!
//! ```text
//! raw (compressed bytes) ─▶ decoder ─▶ tail (an unfinished record) ─▶ ready (whole records) ─▶ chunks
//!                                           ▲ position.offset is the first byte of ready, then of tail
//! ```
//!
//! I5: `settled == Some(size)` means that nothing more can be had from the file at that size.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use watershed_ports::{Clock, Framing, RawChunk, SystemClock};
use watershed_types::{Error, PartitionPosition, Result};

use crate::codec::{Decoder, Kind};
use crate::options::{CsvFraming, Unterminated};
use crate::scan::{self, Scanner};
use crate::storage::{BlockReader, Storage};

/// Read at once; more once a record turns out to be long.
const BLOCK: usize = 1 << 20;
const LONG_BLOCK: usize = 4 << 20;
/// No single record is delivered beyond this: a chunk's bytes must stay below 2 GiB.
const LONGEST_RECORD: usize = 1 << 30;
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

/// What all files of a source share.
pub(crate) struct Context<'a> {
    pub(crate) storage: &'a Storage,
    pub(crate) csv: Option<CsvFraming>,
    pub(crate) max_line_bytes: u64,
    pub(crate) unterminated: Unterminated,
    pub(crate) draining: bool,
    pub(crate) partition: &'a Arc<str>,
    pub(crate) notices: &'a mut Vec<String>,
}

enum Fill {
    Ready,
    End,
}

/// A known file.
pub(crate) struct TrackedFile {
    pub(crate) name: Arc<str>,
    /// Raw bytes at the last look.
    pub(crate) size: u64,
    /// False once a listing or an open did not find it.
    pub(crate) present: bool,
    /// The next record to deliver.
    pub(crate) position: PartitionPosition,
    /// Set while the end of the file leaves something open: a record or a compressed stream.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) grown_at: Option<Instant>,
    judge: bool,
    settled: Option<u64>,
    kind: Option<Kind>,
    reader: Option<BlockReader>,
    limit: u64,
    raw_offset: u64,
    raw: Vec<u8>,
    raw_at: usize,
    decoder: Option<Decoder>,
    decoder_has_more: bool,
    /// Calls of the decoder in a row that did nothing.
    stalls: u8,
    /// The compressed data is broken; says so until the file is replaced.
    damage: Option<String>,
    skip: u64,
    bom_checked: bool,
    header: Option<Bytes>,
    tail: Vec<u8>,
    scanner: Scanner,
    ready: Bytes,
}

impl TrackedFile {
    pub(crate) fn new(name: Arc<str>, position: PartitionPosition, csv: Option<CsvFraming>) -> Self {
        Self {
            name,
            size: 0,
            present: false,
            position,
            waiting_since: None,
            grown_at: None,
            judge: false,
            settled: None,
            kind: None,
            reader: None,
            limit: 0,
            raw_offset: 0,
            raw: Vec::new(),
            raw_at: 0,
            decoder: None,
            decoder_has_more: false,
            stalls: 0,
            damage: None,
            skip: 0,
            bom_checked: position.offset > 0,
            header: None,
            tail: Vec::new(),
            scanner: Scanner::new(csv),
            ready: Bytes::new(),
        }
    }

    /// Something may be had from it now.
    pub(crate) fn pending(&self) -> bool {
        !self.ready.is_empty() || self.reader.is_some() || self.judge || (self.present && self.settled != Some(self.size))
    }

    /// Raw bytes not yet read, plus read ones not yet delivered where the two are the same bytes.
    pub(crate) fn unread(&self) -> u64 {
        match self.kind {
            _ if self.settled == Some(self.size) && self.tail.is_empty() && self.ready.is_empty() => 0,
            Some(Kind::Plain) => self.size.saturating_sub(self.position.offset),
            Some(_) => self.size.saturating_sub(self.raw_offset),
            None if Kind::by_name(&self.name).is_none() => self.size.saturating_sub(self.position.offset),
            None => self.size,
        }
    }

    /// Its end, as it is, is to be judged: take what is whole, say what is not.
    pub(crate) fn judge_end(&mut self) {
        self.judge = !self.tail.is_empty() || self.decoder.as_ref().is_some_and(|decoder| !decoder.at_border());
    }

    /// A look found it with this many bytes.
    pub(crate) fn seen(&mut self, size: u64) -> Result<()> {
        let first_look = !self.present && self.size == 0;
        self.present = true;
        if size == self.size && !first_look {
            return Ok(());
        }
        if self.damage.is_some() {
            // Replaced: read on in the new copy, from the same record.
            self.start_over();
        }
        if size < self.raw_offset {
            self.shrank(size)?;
        }
        if !first_look {
            self.grown_at = Some(Instant::now());
        }
        self.size = size;
        // Read to its end by an earlier run: not worth opening. A compressed file has to be looked at.
        let read_before = self.kind.is_none() && self.position.offset == size && Kind::by_name(&self.name).is_none();
        if size == 0 || (read_before && self.raw_offset == 0) {
            self.settled = Some(size);
        }
        Ok(())
    }

    /// A look did not find it.
    pub(crate) fn gone(&mut self, notices: &mut Vec<String>) {
        if !self.present {
            return;
        }
        self.present = false;
        if self.reader.is_none() && self.unread() > 0 {
            notices.push(format!("file \"{}\" vanished with {} bytes unread", self.name, self.unread()));
        }
        self.waiting_since = None;
        if self.damage.is_some() {
            self.start_over();
        }
    }

    /// Forgets everything but the position: the next read opens the file as after a restart.
    fn start_over(&mut self) {
        self.forget();
        (self.kind, self.settled, self.raw_offset, self.skip) = (None, None, 0, 0);
    }

    fn shrank(&mut self, size: u64) -> Result<()> {
        let delivered = match self.kind {
            Some(Kind::Plain) => self.position.offset,
            Some(_) if self.position.offset == 0 => 0,
            _ => self.raw_offset,
        };
        if size < delivered {
            return Err(self.shorter(size, delivered, "bytes"));
        }
        // Only what was not delivered is gone: read that part again.
        self.forget();
        self.raw_offset = if self.kind == Some(Kind::Plain) { self.position.offset } else { 0 };
        self.skip = 0;
        if self.position.offset == 0 {
            (self.kind, self.bom_checked) = (None, false);
        }
        self.settled = None;
        Ok(())
    }

    fn shorter(&self, size: u64, delivered: u64, unit: &str) -> Error {
        Error::corrupt("FILE0006", format!("file \"{}\" is shorter than what was read of it: it has {size} {unit}, {delivered} were read", self.name))
            .hint("Put the file back as it was, or give the new content a new name; files may grow and disappear, never shrink.")
    }

    /// Drops everything read and not delivered.
    fn forget(&mut self) {
        self.reader = None;
        self.decoder = None;
        self.decoder_has_more = false;
        (self.stalls, self.damage) = (0, None);
        (self.raw, self.raw_at) = (Vec::new(), 0);
        self.tail = Vec::new();
        self.scanner = Scanner::new(self.scanner.csv());
        self.ready = Bytes::new();
        self.waiting_since = None;
        self.judge = false;
    }

    /// The next whole records, `None` at the end of what there is.
    pub(crate) fn next(&mut self, cx: &mut Context<'_>, max_bytes: usize) -> Result<Option<RawChunk>> {
        if self.ready.is_empty() {
            let unsettled = self.reader.is_some() || self.settled != Some(self.size);
            if !unsettled && self.judge {
                return self.judged(cx);
            }
            let filled = self.fill(cx).inspect_err(|_| self.reader = None)?;
            if let Fill::End = filled {
                return self.ended(cx);
            }
        }
        let end = scan::cut(&self.ready, max_bytes, cx.csv);
        let records = self.ready.split_to(end);
        Ok(Some(self.chunk(cx, records)))
    }

    fn chunk(&mut self, cx: &mut Context<'_>, records: Bytes) -> RawChunk {
        let (offset, record) = (self.position.offset, self.position.record);
        self.position.offset += records.len() as u64;
        self.position.record += scan::lines(&records);
        if records.len() as u64 > cx.max_line_bytes && scan::cut(&records, 1, cx.csv) == records.len() {
            cx.notices.push(format!("file \"{}\" has a record of {} bytes at byte {offset}, more than max_line_bytes", self.name, records.len()));
        }
        let header = self.header.as_ref().filter(|_| cx.csv.is_some_and(|csv| csv.header));
        let bytes = match header {
            Some(header) => [header.as_ref(), records.as_ref()].concat().into(),
            None => records,
        };
        RawChunk {
            partition: Arc::clone(cx.partition),
            stretch: Arc::clone(&self.name),
            offset,
            end_offset: self.position.offset,
            record,
            byte_positions: true,
            ingested_at: SystemClock.now_micros(),
            framing: Framing::Lines,
            header: header.is_some(),
            facts: None,
            lost: 0,
            skipped: 0,
            bytes,
        }
    }

    /// Reads until a record ends, or the file does.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<Fill> {
        self.check_damage()?;
        if self.reader.is_none() && !self.open(cx)? {
            return Ok(Fill::End);
        }
        loop {
            if self.scan(cx)? {
                return Ok(Fill::Ready);
            }
            if self.tail.len() > LONGEST_RECORD {
                return Err(Error::corrupt("FILE0007", format!("file \"{}\" has a record of more than 1 GiB at byte {}", self.name, self.position.offset))
                    .hint("Check that its records end in line ends and, in CSV, that every quote is closed."));
            }
            self.check_damage()?;
            if !self.read_more()? {
                return Ok(Fill::End);
            }
        }
    }

    fn check_damage(&self) -> Result<()> {
        match &self.damage {
            None => Ok(()),
            Some(damage) => Err(Error::corrupt("FILE0008", damage.clone())
                .hint("Replace it with an intact copy (test it with gzip -t or zstd -t), or move it away; the whole lines before the damage were read.")),
        }
    }

    /// Moves whole records from the tail to `ready`.
    fn scan(&mut self, cx: &Context<'_>) -> Result<bool> {
        if !self.bom_checked && self.tail.len() >= BOM.len() {
            self.bom_checked = true;
            if self.tail.starts_with(BOM) {
                self.tail.drain(..BOM.len());
                self.position.offset = BOM.len() as u64;
            }
        }
        let Some(end) = self.scanner.scan(&self.tail) else { return Ok(false) };
        self.bom_checked = true;
        self.scanner.removed(end);
        let mut rest = Vec::with_capacity((self.tail.len() - end) + BLOCK);
        rest.extend_from_slice(&self.tail[end..]);
        self.ready = Bytes::from(std::mem::replace(&mut self.tail, rest)).slice(..end);
        if let Some(csv) = cx.csv.filter(|csv| csv.header && self.header.is_none()) {
            let Some(end) = scan::first_record_end(&self.ready, csv) else {
                // Blank lines only: the header is still to come, so keep them in front of it.
                let mut again = self.ready.to_vec();
                again.extend_from_slice(&self.tail);
                self.tail = again;
                self.scanner = Scanner::new(cx.csv);
                let _ = self.scanner.scan(&self.tail);
                self.ready = Bytes::new();
                return Ok(false);
            };
            let header = self.ready.split_to(end);
            self.position.offset += end as u64;
            self.position.record += scan::lines(&header);
            // Copied, so that it does not keep the whole first block in memory.
            self.header = Some(Bytes::copy_from_slice(&header));
        }
        Ok(!self.ready.is_empty())
    }

    /// Appends to the tail; false if nothing more is there.
    fn read_more(&mut self) -> Result<bool> {
        let block = if self.tail.len() > LONG_BLOCK { LONG_BLOCK } else { BLOCK };
        let Some(reader) = self.reader.as_mut() else { return Ok(false) };
        let left = self.limit.saturating_sub(self.raw_offset);
        let limit = block.min(usize::try_from(left).unwrap_or(block));
        let Some(decoder) = self.decoder.as_mut() else {
            let read = if limit == 0 { 0 } else { reader.read_block(limit, &mut self.tail)? };
            self.raw_offset += read as u64;
            return Ok(read > 0);
        };
        if self.raw_at == self.raw.len() && !self.decoder_has_more {
            self.raw.clear();
            self.raw_at = 0;
            let read = if limit == 0 { 0 } else { reader.read_block(limit.min(BLOCK / 4), &mut self.raw)? };
            self.raw_offset += read as u64;
            if read == 0 {
                return Ok(false);
            }
        }
        let before = self.tail.len();
        let outcome = decoder.decode(&self.raw[self.raw_at..], block, &mut self.tail);
        let (taken, mut damage) = match outcome {
            Ok(decoded) => {
                self.decoder_has_more = decoded.more;
                (decoded.taken, None)
            }
            Err((taken, what)) => (taken, Some(what)),
        };
        self.raw_at += taken;
        let idle = taken == 0 && self.tail.len() == before && self.raw_at < self.raw.len();
        self.stalls = if idle { self.stalls + 1 } else { 0 };
        if self.stalls > 4 {
            damage = Some("its compressed data leads nowhere".to_owned());
        }
        if let Some(what) = damage {
            let at = self.raw_offset - (self.raw.len() - self.raw_at) as u64;
            self.damage = Some(format!("file \"{}\" is damaged at byte {at}: {what}", self.name));
        }
        if self.skip > 0 {
            let dropped = (self.tail.len() as u64).min(self.skip);
            self.tail.drain(..dropped as usize);
            self.skip -= dropped;
        }
        Ok(true)
    }

    /// Opens where reading goes on; false if there is nothing to open or too little to tell what it is.
    fn open(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        if cx.storage.is_local() {
            match cx.storage.size(&self.name)? {
                Some(size) => self.seen(size)?,
                None => {
                    self.gone(cx.notices);
                    return Ok(false);
                }
            }
        }
        self.limit = self.size;
        if self.kind.is_none() && !self.begin(cx)? {
            return Ok(false);
        }
        if self.reader.is_none() && self.raw_offset < self.limit {
            self.reader = cx.storage.open(&self.name, self.raw_offset, self.limit)?;
            if self.reader.is_none() {
                self.gone(cx.notices);
            }
        }
        if self.decoder.is_none() {
            let kind = self.kind.unwrap_or(Kind::Plain);
            let resumed = self.raw_offset > self.raw.len() as u64;
            self.decoder = Decoder::new(kind, resumed).map_err(|error| Error::internal("FILE0009", "cannot set up a decompressor").caused_by(error))?;
        }
        Ok(self.reader.is_some())
    }

    /// Looks at the first bytes and goes to the position of an earlier run.
    fn begin(&mut self, cx: &mut Context<'_>) -> Result<bool> {
        let resumed = self.position.offset > 0;
        let end = if resumed { self.limit.min(64) } else { self.limit };
        let Some(mut reader) = cx.storage.open(&self.name, 0, end)? else {
            self.gone(cx.notices);
            return Ok(false);
        };
        let mut head = Vec::new();
        while head.len() < 4 && reader.read_block(64.min(end as usize), &mut head)? > 0 {}
        let Some(kind) = Kind::detect(&self.name, &head) else { return Ok(false) };
        self.begin_as(kind, reader, head, cx)
    }

    fn begin_as(&mut self, kind: Kind, reader: BlockReader, head: Vec<u8>, cx: &mut Context<'_>) -> Result<bool> {
        let offset = self.position.offset;
        if kind == Kind::Plain && self.size < offset {
            return Err(self.shorter(self.size, offset, "bytes"));
        }
        if offset > 0 && self.header.is_none() && cx.csv.is_some_and(|csv| csv.header) {
            self.header = self.header_from_start(cx)?;
        }
        self.kind = Some(kind);
        if offset == 0 {
            self.raw_offset = head.len() as u64;
            self.reader = Some(reader);
            if kind == Kind::Plain {
                self.tail = head;
            } else {
                (self.raw, self.raw_at) = (head, 0);
            }
        } else if kind == Kind::Plain {
            self.raw_offset = offset;
            self.check_border(cx)?;
        } else {
            (self.raw_offset, self.skip) = (0, offset);
        }
        Ok(true)
    }

    /// A record must start at the position of the earlier run, or the file is not the one that was read.
    fn check_border(&mut self, cx: &Context<'_>) -> Result<()> {
        let at = self.position.offset;
        let Some(mut reader) = cx.storage.open(&self.name, at - 1, self.limit.min(at + 1))? else { return Ok(()) };
        let mut around = Vec::new();
        while around.len() < 2 && reader.read_block(2, &mut around)? > 0 {}
        let bom = at == BOM.len() as u64;
        // A last line without its end may have been taken; what follows then is its line end or nothing.
        let fits = cx.csv.is_some() || bom || around.first() == Some(&b'\n') || around.get(1).is_none_or(u8::is_ascii_whitespace);
        if fits {
            return Ok(());
        }
        self.kind = None;
        Err(Error::corrupt("FILE0010", format!("file \"{}\" was changed: no line starts at byte {at}, where reading goes on", self.name))
            .hint("Put the file back as it was, or give the new content a new name."))
    }

    fn header_from_start(&self, cx: &mut Context<'_>) -> Result<Option<Bytes>> {
        let mut fresh = TrackedFile::new(Arc::clone(&self.name), PartitionPosition::default(), cx.csv);
        fresh.seen(self.size)?;
        while fresh.header.is_none() {
            if let Fill::End = fresh.fill(cx)? {
                break;
            }
        }
        Ok(fresh.header)
    }

    /// All bytes there are now were read.
    fn ended(&mut self, cx: &mut Context<'_>) -> Result<Option<RawChunk>> {
        self.reader = None;
        if self.present && self.raw_offset < self.limit && self.kind.is_some() {
            // Fewer bytes than the last look promised.
            match cx.storage.size(&self.name)? {
                Some(size) if size < self.raw_offset => self.shrank(size)?,
                Some(size) => self.size = size,
                None => self.gone(cx.notices),
            }
            self.settled = Some(self.size);
            return Ok(None);
        }
        self.settled = Some(self.size.min(self.limit));
        let whole_stream = self.decoder.as_ref().is_none_or(Decoder::at_border);
        if whole_stream && self.skip > 0 {
            let offset = self.position.offset;
            return Err(self.shorter(offset - self.skip, offset, "decompressed bytes"));
        }
        if whole_stream && self.tail.is_empty() {
            // The next bytes, if any, start a new member or line.
            let header = self.header.take();
            self.forget();
            self.header = header;
            return Ok(None);
        }
        self.waiting_since = Some(Instant::now());
        if cx.draining { self.judged(cx) } else { Ok(None) }
    }

    /// The file ends inside a record or a compressed stream and does not grow.
    fn judged(&mut self, cx: &mut Context<'_>) -> Result<Option<RawChunk>> {
        self.judge = false;
        self.waiting_since = None;
        let compressed = self.kind.is_some_and(|kind| kind != Kind::Plain);
        let complete = compressed && self.decoder.as_ref().is_some_and(Decoder::at_border);
        if compressed && !complete {
            cx.notices.push(format!("file \"{}\" ends inside its compressed data at byte {}; its whole lines were read, waiting for the rest", self.name, self.raw_offset));
            return Ok(None);
        }
        let blank = self.tail.iter().all(u8::is_ascii_whitespace);
        let headless = cx.csv.is_some_and(|csv| csv.header) && self.header.is_none();
        let takes = match cx.unterminated {
            _ if blank || headless || self.scanner.in_quotes() => false,
            Unterminated::Wait => false,
            Unterminated::Take => cx.draining,
            Unterminated::Auto if complete => true,
            Unterminated::Auto => cx.draining && cx.csv.is_none() && is_whole_object(&self.tail),
        };
        if takes {
            let records = Bytes::from(std::mem::take(&mut self.tail));
            self.scanner = Scanner::new(cx.csv);
            return Ok(Some(self.chunk(cx, records)));
        }
        if !blank {
            cx.notices.push(format!(
                "file \"{}\" ends at byte {} without a line end; its last line, from byte {}, waits for the rest",
                self.name,
                self.position.offset + self.tail.len() as u64,
                self.position.offset
            ));
        }
        Ok(None)
    }
}

/// Whether a last line without its line end is one whole JSON object all the same.
fn is_whole_object(tail: &[u8]) -> bool {
    let text = tail.trim_ascii();
    text.first() == Some(&b'{') && text.last() == Some(&b'}') && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

impl std::fmt::Debug for TrackedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackedFile").field("name", &self.name).field("position", &self.position).finish()
    }
}
