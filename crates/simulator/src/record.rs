//! One simulated transaction.
//!
//! **Owns** the fields, their distributions, and what may be wrong with a record.
//!
//! A duplicate repeats, byte for byte, a *good* record at most 2,000 indexes back, so that whoever counts knows what
//! deduplication must find. Where the roll says duplicate and the record it would repeat is not good, a good one is made.

use crate::hash::{Dice, below, threshold};
use crate::write::{cents, digits, hex, number, timestamp};

/// How far back a duplicate reaches.
const REACH: u64 = 2_000;
const MINUTE: i64 = 60_000_000;

const CURRENCIES: [&str; 4] = ["USD", "USD", "EUR", "GBP"];
const CATEGORIES: [&str; 8] = ["groceries", "fuel", "travel", "electronics", "restaurants", "health", "clothing", "entertainment"];
const STATUSES: [&str; 16] = [
    "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "approved", "declined", "declined",
    "pending", "refunded",
];
const DEVICES: [&str; 4] = ["ios", "android", "browser", "terminal"];
const CHANNELS: [&str; 4] = ["web", "app", "store", "phone"];
const MERCHANTS: [&str; 8] = ["Northwind Market", "Blue Harbor Cafe", "Cedar Books", "Summit Outdoor", "Metro Fuel", "Lumen Electric", "Olive & Thyme", "Parkside Pharmacy"];

/// What is simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Another seed, other records.
    pub seed: u64,
    /// How many customers there are.
    pub customers: u64,
    /// Event time of index 0, microseconds since 1970.
    pub start_micros: i64,
    /// Event time advances by 1/this per index.
    pub events_per_second: f64,
    /// Share of records that repeat an earlier one.
    pub duplicates: f64,
    /// Share that parse but break a rule: amount not positive, unknown currency.
    pub invalid: f64,
    /// Share that cannot be decoded: half bad JSON, half a wrong type or a missing field.
    pub corrupt: f64,
    /// Share whose event time is 15 to 60 minutes behind.
    pub late: f64,
    /// Event times are up to this much behind, evenly spread.
    pub disorder_micros: i64,
    /// Share of records whose event time is behind at all.
    pub disorder_share: f64,
    /// Share of the traffic that the first fifth of the customers make.
    pub hot_share: f64,
    /// Share of the traffic that [`Profile::hot_customers`] alone make, before anything else is divided.
    pub hot_customers_share: f64,
    /// How many customers have that share, evenly between them. The seed decides which they are.
    pub hot_customers: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            seed: 42,
            customers: 100_000,
            start_micros: 1_767_225_600_000_000, // 2026-01-01T00:00:00Z
            events_per_second: 1_000.0,
            duplicates: 0.01,
            invalid: 0.005,
            corrupt: 0.002,
            late: 0.002,
            disorder_micros: 2_000_000,
            disorder_share: 1.0,
            hot_share: 0.8,
            hot_customers_share: 0.0,
            hot_customers: 1,
        }
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Made {
    /// A record nobody should object to.
    Good,
    /// A good record again.
    Duplicate,
    /// Decodes, breaks a rule.
    Invalid,
    /// Not JSON.
    Corrupt,
    /// JSON, with a wrong type or without a needed field.
    WrongType,
    /// Good, 15 to 60 minutes behind.
    Late,
}

#[derive(Clone, Copy)]
enum Purpose {
    Kind,
    Detail,
    Customer,
    Amount,
    Choices,
    Identity,
    IdentityLow,
    Metadata,
    Time,
    // New purposes come last: the ones above keep their numbers, and so old seeds their bytes.
    Disorder,
    HotCustomer,
}

/// Makes records. Cheap to copy around; holds no state (I1 of the crate).
#[derive(Debug, Clone)]
pub struct Simulator {
    profile: Profile,
    /// Upper thresholds on the kind's roll: bad JSON, wrong type, invalid, late, duplicate.
    bounds: [u64; 5],
    hot: u64,
    /// `None`: nobody has a share of their own.
    hot_customers: Option<u64>,
    /// `None`: every event time may be behind.
    disorder: Option<u64>,
}

impl Simulator {
    /// A simulator of this profile.
    pub fn new(profile: Profile) -> Self {
        let mut sum = 0.0;
        let shares = [profile.corrupt / 2.0, profile.corrupt / 2.0, profile.invalid, profile.late, profile.duplicates];
        let bounds = shares.map(|share| {
            sum += share.max(0.0);
            threshold(sum)
        });
        let hot = threshold(profile.hot_share);
        let hot_customers = (profile.hot_customers_share > 0.0).then(|| threshold(profile.hot_customers_share));
        let disorder = (profile.disorder_share < 1.0).then(|| threshold(profile.disorder_share));
        Self { profile, bounds, hot, hot_customers, disorder }
    }

    /// What it simulates.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The event time that index has before jitter and lateness.
    pub fn base_micros(&self, index: u64) -> i64 {
        self.profile.start_micros.saturating_add(self.span_micros(index))
    }

    fn span_micros(&self, indexes: u64) -> i64 {
        (indexes as f64 * 1e6 / self.profile.events_per_second.max(1e-9)) as i64
    }

    fn dice(&self, index: u64) -> Dice {
        Dice::new(self.profile.seed, index)
    }

    /// What is rolled for an index, before looking at what a duplicate would repeat.
    fn rolled(&self, dice: Dice) -> Made {
        let roll = dice.roll(Purpose::Kind as u64);
        const KINDS: [Made; 5] = [Made::Corrupt, Made::WrongType, Made::Invalid, Made::Late, Made::Duplicate];
        // One comparison decides for nearly all records.
        if roll >= self.bounds[4] {
            return Made::Good;
        }
        self.bounds.iter().zip(KINDS).find(|(bound, _)| roll < **bound).map_or(Made::Good, |(_, kind)| kind)
    }

    /// The kind made for an index, and the index whose content it has.
    fn resolve(&self, index: u64) -> (Made, u64) {
        let dice = self.dice(index);
        match self.rolled(dice) {
            Made::Duplicate if index > 0 => {
                let origin = index - 1 - below(dice.roll(Purpose::Detail as u64), REACH.min(index));
                match self.rolled(self.dice(origin)) {
                    Made::Good => (Made::Duplicate, origin),
                    _ => (Made::Good, index),
                }
            }
            Made::Duplicate => (Made::Good, index),
            made => (made, index),
        }
    }

    /// The kind that [`Simulator::record`] makes for an index.
    pub fn made_of(&self, index: u64) -> Made {
        self.resolve(index).0
    }

    /// The number of the customer in an index's record.
    pub fn customer_of(&self, index: u64) -> u64 {
        self.customer(self.dice(self.resolve(index).1))
    }

    /// The customers that have a share of the traffic of their own; empty without one.
    pub fn hot_customers(&self) -> Vec<u64> {
        let count = if self.hot_customers.is_some() { self.profile.hot_customers.max(1) } else { 0 };
        (0..count).map(|which| self.hot_customer(which)).collect()
    }

    fn hot_customer(&self, which: u64) -> u64 {
        below(Dice::new(self.profile.seed, which).roll(Purpose::HotCustomer as u64), self.profile.customers.max(1))
    }

    fn customer(&self, dice: Dice) -> u64 {
        let customers = self.profile.customers.max(1);
        if let Some(share) = self.hot_customers {
            let roll = dice.roll(Purpose::HotCustomer as u64);
            if roll < share {
                // Which of them must not hang together with having been chosen.
                let which = roll.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                return self.hot_customer(below(which, self.profile.hot_customers.max(1)));
            }
        }
        let hot_customers = (customers / 5).max(1);
        let roll = dice.roll(Purpose::Customer as u64);
        let which = roll.rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if roll < self.hot || customers == hot_customers { below(which, hot_customers) } else { hot_customers + below(which, customers - hot_customers) }
    }

    /// Appends the record of an index, without a line end, and says what it is.
    ///
    /// `event_micros` replaces the base event time (a producer passes the wall clock). A duplicate then carries the
    /// time its original had if overrides advance by 1/`events_per_second` per index; without one it is exact.
    pub fn record(&self, index: u64, event_micros: Option<i64>, out: &mut Vec<u8>) -> Made {
        let (made, content) = self.resolve(index);
        self.resolved(index, made, content, event_micros, out);
        made
    }

    /// [`Simulator::record`] that also gives the number of the record's customer, for the price of one roll more
    /// instead of a whole [`Simulator::customer_of`]. Records that cannot be decoded have one too.
    pub fn record_of_customer(&self, index: u64, event_micros: Option<i64>, out: &mut Vec<u8>) -> (Made, u64) {
        let (made, content) = self.resolve(index);
        self.resolved(index, made, content, event_micros, out);
        (made, self.customer(self.dice(content)))
    }

    fn resolved(&self, index: u64, made: Made, content: u64, event_micros: Option<i64>, out: &mut Vec<u8>) {
        let base = match event_micros {
            Some(micros) => micros - self.span_micros(index - content),
            None => self.base_micros(content),
        };
        let content_made = if made == Made::Duplicate { Made::Good } else { made };
        let start = out.len();
        self.content(self.dice(content), content_made, base, out);
        if made == Made::Corrupt {
            self.damage(self.dice(index), start, out);
        }
    }

    fn content(&self, dice: Dice, made: Made, base: i64, out: &mut Vec<u8>) {
        let detail = dice.roll(Purpose::Detail as u64);
        let choices = dice.roll(Purpose::Choices as u64);
        let choice = |shift: u32, count: u64| ((choices >> shift) % count) as usize;
        out.reserve(400);
        out.extend_from_slice(b"{\"transaction_id\":\"");
        identity(dice.roll(Purpose::Identity as u64), dice.roll(Purpose::IdentityLow as u64), out);
        out.extend_from_slice(b"\",\"customer_id\":");
        if made == Made::WrongType && detail & 3 == 1 {
            out.extend_from_slice(b"null");
        } else {
            out.push(b'"');
            customer_id(self.customer(dice), out);
            out.push(b'"');
        }
        self.amount(dice, made, detail, out);
        out.extend_from_slice(b",\"currency\":\"");
        let unknown = made == Made::Invalid && detail & 1 == 1;
        out.extend_from_slice(if unknown { b"XXX" } else { CURRENCIES[choice(0, 4)].as_bytes() });
        out.extend_from_slice(b"\",\"merchant\":\"");
        out.extend_from_slice(MERCHANTS[choice(2, 8)].as_bytes());
        out.extend_from_slice(b" #");
        number((choices >> 5) & 255, out);
        out.extend_from_slice(b"\",\"category\":\"");
        out.extend_from_slice(CATEGORIES[choice(13, 8)].as_bytes());
        out.extend_from_slice(b"\",\"status\":\"");
        out.extend_from_slice(STATUSES[choice(16, 16)].as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":\"");
        if made == Made::WrongType && detail & 3 == 2 {
            out.extend_from_slice(b"yesterday");
        } else {
            timestamp(self.event_time(dice, made, detail, base), out);
        }
        metadata(dice.roll(Purpose::Metadata as u64), DEVICES[choice(20, 4)], CHANNELS[choice(22, 4)], out);
    }

    fn amount(&self, dice: Dice, made: Made, detail: u64, out: &mut Vec<u8>) {
        let value = amount_cents(dice.roll(Purpose::Amount as u64));
        match made {
            // The field is missing.
            Made::WrongType if detail & 3 == 3 => {}
            Made::WrongType if detail & 3 == 0 => out.extend_from_slice(b",\"amount\":\"twelve\""),
            Made::Invalid if detail & 1 == 0 => {
                out.extend_from_slice(b",\"amount\":-");
                cents(value, out);
            }
            _ => {
                out.extend_from_slice(b",\"amount\":");
                cents(value, out);
            }
        }
    }

    fn event_time(&self, dice: Dice, made: Made, detail: u64, base: i64) -> i64 {
        let disorder = self.profile.disorder_micros.max(0) as u64 + 1;
        let ordered = self.disorder.is_some_and(|share| dice.roll(Purpose::Disorder as u64) >= share);
        let behind = if ordered { 0 } else { below(dice.roll(Purpose::Time as u64), disorder) as i64 };
        let late = if made == Made::Late { 15 * MINUTE + below(detail, 45 * MINUTE as u64) as i64 } else { 0 };
        base - behind - late
    }

    /// Makes the record that starts at `start` undecodable, still one line and not blank.
    fn damage(&self, dice: Dice, start: usize, out: &mut Vec<u8>) {
        let detail = dice.roll(Purpose::Detail as u64);
        let length = out.len() - start;
        match detail & 3 {
            0 => out.truncate(start + length / 2),
            1 => out[start] = b'<',
            2 => {
                out.truncate(start + 40);
                out.extend_from_slice(&[0xff, 0xfe, b'"', b'}']);
            }
            _ => {
                out.truncate(start);
                out.extend_from_slice(b"ERROR upstream timeout code=");
                number(detail >> 48, out);
            }
        }
    }
}

/// Appends a customer's id as records have it, such as `C004711`.
pub fn customer_id(customer: u64, out: &mut Vec<u8>) {
    out.push(b'C');
    digits(customer, (customer.checked_ilog10().unwrap_or(0) as usize + 1).max(6), out);
}

/// A version 4 UUID.
fn identity(high: u64, low: u64, out: &mut Vec<u8>) {
    hex(high >> 32, 8, out);
    out.push(b'-');
    hex(high >> 16, 4, out);
    out.extend_from_slice(b"-4");
    hex(high, 3, out);
    out.push(b'-');
    hex(low >> 48 & 0x3fff | 0x8000, 4, out);
    out.push(b'-');
    hex(low, 12, out);
}

/// About log-normal with a median near 45.00, in whole numbers only: the sum of four evenly spread numbers is the
/// logarithm to base 2, and the mantissa is read linearly.
fn amount_cents(random: u64) -> u64 {
    let sum: u64 = (0..4).map(|part| random >> (16 * part) & 0xffff).sum(); // mean 131,070, deviation 37,837
    // 12.1 ± 1.6 in 16.16 fixed point: 2^12.1 is some 4,500 cents.
    let log = 792_985 + (sum as i64 - 131_070) * 277 / 100;
    let log = log.clamp(5 << 16, 26 << 16) as u64;
    ((65_536 + (log & 0xffff)) << (log >> 16)) >> 16
}

fn metadata(random: u64, device: &str, channel: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\",\"metadata\":{\"device\":\"");
    out.extend_from_slice(device.as_bytes());
    out.extend_from_slice(b"\",\"ip\":\"10.");
    for (place, end) in [(0, b'.'), (8, b'.'), (16, b'"')] {
        number(random >> place & 255, out);
        out.push(end);
    }
    out.extend_from_slice(b",\"channel\":\"");
    out.extend_from_slice(channel.as_bytes());
    out.extend_from_slice(b"\",\"session\":\"");
    hex(random >> 32, 8, out);
    out.extend_from_slice(b"\"}}");
}

#[cfg(test)]
mod tests;
