//! `connector = 'nexmark'`: the people, auctions and bids of the Nexmark benchmark, one source for each.
//!
//! **Owns** the events as JSON, their positions and how many there are. **Does not own** what an event says: that is the
//! `nexmark` crate's generator, in which each is a function of its number.
//!
//! I1: sources of the same options are the same run: a bid names auctions and people that the other sources give.
//! I2: one partition; a position is how many events of the type came before. Event times never go back.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `type` | `person`, `auction` or `bid` | required |
//! | `events` | ends after so many events of all types together: of 50 one is a person, three are auctions | no end |
//! | `events_per_second` | how fast event time advances, over all types | `10000` |
//! | `start` | event time of the first event | `2026-01-01T00:00:00Z` |

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Event, EventType};
use watershed_ports::{Clock, Framing, Lag, Polled, RawChunk, Source, SystemClock};
use watershed_types::{Error, Options, Positions, Result};

use crate::write::{number, timestamp};

/// The one partition.
const PARTITION: &str = "0";
/// Events of all types that a chunk goes over at most, so that the three sources advance together. Whole periods of the generator.
const SPAN: u64 = 10_000;
/// 2026-01-01, milliseconds.
const START: u64 = 1_767_225_600_000;

/// The options of one `nexmark` source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexmarkOptions {
    /// Which events.
    pub kind: EventType,
    /// How many there are of all types together; `None`: no end.
    pub events: Option<u64>,
    /// How fast event time advances.
    pub events_per_second: usize,
    /// Event time of the first event, milliseconds.
    pub start_millis: u64,
}

impl NexmarkOptions {
    /// Takes this connector's options.
    pub fn take(options: &mut Options) -> Result<NexmarkOptions> {
        const TYPES: &str = "'person', 'auction' or 'bid'";
        let kind = options.parse("type", TYPES, |text| match text {
            "person" => Some(EventType::Person),
            "auction" => Some(EventType::Auction),
            "bid" => Some(EventType::Bid),
            _ => None,
        })?;
        let kind = kind.ok_or_else(|| Error::invalid("GEN0003", format!("{} does not say which events it gives", options.owner())).hint(format!("Add type = {TYPES}.")))?;
        let events = options.number("events")?;
        let most = |text: &str| text.trim().replace('_', "").parse().ok().filter(|rate| (1..=1_000_000_000).contains(rate));
        let events_per_second = options.parse("events_per_second", "a whole number from 1", most)?.unwrap_or(10_000);
        let at = |text: &str| u64::try_from(chrono::DateTime::parse_from_rfc3339(text.trim()).ok()?.timestamp_millis()).ok();
        let start_millis = options.parse("start", "a time such as '2026-01-01T00:00:00Z'", at)?.unwrap_or(START);
        Ok(NexmarkOptions { kind, events, events_per_second, start_millis })
    }

    fn config(&self) -> NexmarkConfig {
        NexmarkConfig { base_time: self.start_millis, first_rate: self.events_per_second, next_rate: self.events_per_second, ..NexmarkConfig::default() }
    }
}

/// Events of a span that were made ahead.
#[derive(Debug)]
struct Made {
    bytes: Bytes,
    /// Where each event ends, its line break included.
    ends: Vec<usize>,
    /// How many were given.
    given: usize,
}

/// A source of one type of events. They are made a few spans ahead, on as many threads as there are cores: what is measured with
/// it should not be its own speed.
#[derive(Debug)]
pub struct NexmarkSource {
    options: NexmarkOptions,
    /// At the next event to give.
    events: EventGenerator,
    made: VecDeque<Made>,
    /// Nothing is made until others have come up.
    held: bool,
}

/// The events from a generator's own to a border.
fn make(mut events: EventGenerator, border: u64) -> Made {
    let (mut bytes, mut ends) = (Vec::with_capacity(2 << 20), Vec::with_capacity(SPAN as usize));
    while events.global_offset() < border {
        let Some(event) = events.next() else { break };
        write(&event, &mut bytes);
        bytes.push(b'\n');
        ends.push(bytes.len());
    }
    Made { bytes: Bytes::from(bytes), ends, given: 0 }
}

impl NexmarkSource {
    /// A source of these events, from the first one.
    pub fn new(options: NexmarkOptions) -> NexmarkSource {
        let events = EventGenerator::new(options.config()).with_type_filter(options.kind);
        NexmarkSource { options, events, made: VecDeque::new(), held: false }
    }

    fn is_over(&self) -> bool {
        self.options.events.is_some_and(|events| self.events.global_offset() >= events)
    }

    /// The next spans, one for each core.
    fn make_ahead(&mut self) {
        let config = NexmarkConfig::default();
        let of_kind = match self.options.kind {
            EventType::Person => config.person_proportion,
            EventType::Auction => config.auction_proportion,
            EventType::Bid => config.bid_proportion,
        } as u64;
        let period = (config.person_proportion + config.auction_proportion + config.bid_proportion) as u64;
        let end = self.options.events.unwrap_or(u64::MAX);
        // Borders stand at the same places wherever a run began: where a chunk ends depends on what it gives (I2).
        let border = (self.events.global_offset() / SPAN + 1) * SPAN;
        let cores = available_parallelism().map_or(1, |cores| cores.get() as u64);
        let borders = (0..cores).map(|ahead| border + ahead * SPAN).filter(|border| border - SPAN < end);
        let spans = borders.map(|to| {
            let from = if to == border { self.events.offset() } else { (to - SPAN) / period * of_kind };
            (self.events.clone().with_offset(from), to.min(end))
        });
        self.made = std::thread::scope(|scope| {
            let threads: Vec<_> = spans.map(|(events, to)| scope.spawn(move || make(events, to))).collect();
            threads.into_iter().map_while(|thread| thread.join().ok()).collect()
        });
    }
}

impl Source for NexmarkSource {
    fn seek(&mut self, positions: &Positions) -> Result<()> {
        if let Some(unknown) = positions.keys().find(|partition| *partition != PARTITION) {
            return Err(Error::invalid("GEN0002", format!("the generator has no partition \"{unknown}\", which an earlier run read"))
                .hint("Set the source back to what it was, or start a new pipeline."));
        }
        let next = positions.get(PARTITION).map_or(0, |position| position.offset);
        self.events = EventGenerator::new(self.options.config()).with_type_filter(self.options.kind).with_offset(next);
        self.made.clear();
        Ok(())
    }

    fn poll(&mut self, max_bytes: usize, _wait: Duration) -> Result<Polled> {
        if self.is_over() {
            return Ok(Polled::End);
        }
        if self.held {
            return Ok(Polled::Held);
        }
        // A span of few events may have none of this type.
        self.made.retain(|made| made.given < made.ends.len());
        if self.made.is_empty() {
            self.make_ahead();
        }
        let Some(made) = self.made.iter_mut().find(|made| !made.ends.is_empty()) else {
            return Err(Error::internal("GEN0004", "no events could be made").hint("A thread of the generator panicked; see above."));
        };
        let from = made.given.checked_sub(1).map_or(0, |last| made.ends[last]);
        let until = made.ends[made.given..].iter().position(|end| end - from >= max_bytes).map_or(made.ends.len(), |more| made.given + more + 1);
        let (bytes, count) = (made.bytes.slice(from..made.ends[until - 1]), (until - made.given) as u64);
        made.given = until;
        let first = self.events.offset();
        self.events = self.events.clone().with_offset(first + count);
        let partition: Arc<str> = Arc::from(PARTITION);
        Ok(Polled::Chunk(RawChunk {
            stretch: Arc::clone(&partition),
            partition,
            offset: first,
            end_offset: self.events.offset(),
            record: first,
            byte_positions: false,
            ingested_at: SystemClock.now_micros(),
            framing: Framing::Lines,
            bytes,
            header: false,
            facts: None,
            lost: 0,
            skipped: 0,
        }))
    }

    fn partitions(&self) -> Vec<String> {
        vec![PARTITION.to_owned()]
    }

    fn hold(&mut self, partitions: &BTreeSet<String>) -> Result<()> {
        self.held = partitions.contains(PARTITION);
        Ok(())
    }

    fn unread(&mut self) -> BTreeSet<String> {
        (!self.is_over()).then(|| PARTITION.to_owned()).into_iter().collect()
    }

    fn lag(&mut self) -> Lag {
        Lag::default()
    }
}

/// An event as JSON. The generator's text has no character that JSON escapes.
fn write(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Person(person) => {
            whole("{\"id\":", person.id, out);
            let texts = [("name", &person.name), ("email_address", &person.email_address), ("credit_card", &person.credit_card), ("city", &person.city), ("state", &person.state)];
            texts.into_iter().for_each(|(name, text)| word(name, text, out));
            time(",\"date_time\":\"", person.date_time, out);
            word("extra", &person.extra, out);
        }
        Event::Auction(auction) => {
            whole("{\"id\":", auction.id, out);
            word("item_name", &auction.item_name, out);
            word("description", &auction.description, out);
            whole(",\"initial_bid\":", auction.initial_bid, out);
            whole(",\"reserve\":", auction.reserve, out);
            time(",\"date_time\":\"", auction.date_time, out);
            time(",\"expires\":\"", auction.expires, out);
            whole(",\"seller\":", auction.seller, out);
            whole(",\"category\":", auction.category, out);
            word("extra", &auction.extra, out);
        }
        Event::Bid(bid) => {
            whole("{\"auction\":", bid.auction, out);
            whole(",\"bidder\":", bid.bidder, out);
            whole(",\"price\":", bid.price, out);
            word("channel", &bid.channel, out);
            word("url", &bid.url, out);
            time(",\"date_time\":\"", bid.date_time, out);
            word("extra", &bid.extra, out);
        }
    }
    out.push(b'}');
}

fn whole(before: &str, value: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(before.as_bytes());
    number(value as u64, out);
}

fn time(before: &str, millis: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(before.as_bytes());
    timestamp(i64::try_from(millis.saturating_mul(1_000)).unwrap_or(i64::MAX), out);
    out.push(b'"');
}

fn word(name: &str, text: &str, out: &mut Vec<u8>) {
    for part in [",\"", name, "\":\"", text, "\""] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
