//! What `watershed produce` may be told, and whether it makes sense.

use std::time::Duration;

use watershed_simulator::{Profile, Rate};
use watershed_types::{Error, Result};

/// Where event times start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At so many microseconds since 1970: the same options make the same bytes.
    At(i64),
    /// At the wall clock: every run has other times.
    Now,
}

/// What a failure may do to records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guarantee {
    /// A retry may repeat or reorder records.
    None,
    /// Retries neither repeat nor reorder (`enable.idempotence`).
    Idempotent,
    /// Idempotent, and readers with `isolation.level=read_committed` see each transaction whole or not at all.
    Transactional {
        /// Records of a transaction at most; at least 1.
        records: u64,
        /// A transaction is committed after so long, however few records it has.
        interval: Duration,
    },
}

/// Everything `watershed produce` can be told. [`ProduceOptions::new`] has the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct ProduceOptions {
    /// Where to connect first: `host:port`, several with commas.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Records a second, or as fast as it goes.
    pub rate: Rate,
    /// Ends after so many records.
    pub records: Option<u64>,
    /// Ends after so long. Without this and `records` it goes on until it is stopped.
    pub seconds: Option<f64>,
    /// Another seed, other records.
    pub seed: u64,
    /// How many customers there are; 20 percent of them make 80 percent of the traffic.
    pub customers: u64,
    /// Share of records that repeat an earlier one.
    pub duplicates: f64,
    /// Share of records whose event time is behind.
    pub disorder: f64,
    /// How far it is behind at most.
    pub max_delay: Duration,
    /// Share of records that cannot be decoded.
    pub corrupt: f64,
    /// Share of records that break a rule.
    pub invalid: f64,
    /// Share of records that are 15 to 60 minutes behind.
    pub late: f64,
    /// Event time of the first record. It advances by 1/`rate` a record, by a millisecond without a rate.
    pub start: Start,
    /// Share of the traffic that `hot_key_count` customers alone make; 0: nobody does.
    pub hot_keys: f64,
    /// How many customers have that share between them.
    pub hot_key_count: u64,
    /// Keys found hot get one of so many suffixes, `#0`, `#1`, …; below 2: none.
    pub salt_hot_keys: u32,
    /// A key is hot from this share of the traffic on; `None`: a quarter of a partition's mean share.
    pub hot_key_threshold: Option<f64>,
    /// Creates the topic if it is missing.
    pub create_topic: bool,
    /// Partitions of a topic that is created; `None`: what the broker's configuration says.
    pub partitions: Option<u32>,
    /// Replicas of a topic that is created; `None`: what the broker's configuration says.
    pub replication: Option<u32>,
    /// What a failure may do to records.
    pub guarantee: Guarantee,
    /// librdkafka's own properties, which win over everything above; the last of a name counts.
    pub properties: Vec<(String, String)>,
    /// Threads that make records; 0: the sending thread does.
    pub generators: usize,
    /// Time between two [`Event::Progress`](crate::Event); zero: none.
    pub progress_every: Duration,
    /// How long what is waiting may take to be acknowledged after a stop; what is left then is given up and counted.
    pub flush_timeout: Duration,
}

impl ProduceOptions {
    /// The defaults: 1,000 records a second, idempotent, until stopped.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        let profile = Profile::default();
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            rate: Rate::PerSecond(1_000.0),
            records: None,
            seconds: None,
            seed: profile.seed,
            customers: profile.customers,
            duplicates: profile.duplicates,
            disorder: profile.disorder_share,
            max_delay: Duration::from_micros(profile.disorder_micros as u64),
            corrupt: profile.corrupt,
            invalid: profile.invalid,
            late: profile.late,
            start: Start::At(profile.start_micros),
            hot_keys: 0.0,
            hot_key_count: 1,
            salt_hot_keys: 0,
            hot_key_threshold: None,
            create_topic: false,
            partitions: None,
            replication: None,
            guarantee: Guarantee::Idempotent,
            properties: Vec::new(),
            generators: 0,
            progress_every: Duration::from_secs(1),
            flush_timeout: Duration::from_secs(30),
        }
    }

    /// What the simulator is to make. `now` is where event times start with [`Start::Now`], microseconds since 1970.
    pub fn profile(&self, now: i64) -> Profile {
        Profile {
            seed: self.seed,
            customers: self.customers,
            start_micros: if let Start::At(micros) = self.start { micros } else { now },
            events_per_second: if let Rate::PerSecond(rate) = self.rate { rate } else { 1_000.0 },
            duplicates: self.duplicates,
            invalid: self.invalid,
            corrupt: self.corrupt,
            late: self.late,
            disorder_micros: i64::try_from(self.max_delay.as_micros()).unwrap_or(i64::MAX),
            disorder_share: self.disorder,
            hot_customers_share: self.hot_keys,
            hot_customers: self.hot_key_count,
            ..Profile::default()
        }
    }

    /// Refuses what makes no sense, with `PRD0001`.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("duplicates", self.duplicates),
            ("disorder", self.disorder),
            ("corrupt", self.corrupt),
            ("invalid", self.invalid),
            ("late", self.late),
            ("hot-keys", self.hot_keys),
            ("hot-key-threshold", self.hot_key_threshold.unwrap_or(0.0)),
        ];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(wrong(name, &share.to_string(), "Give a share between 0 and 1, such as 0.01 for one percent."));
            }
        }
        let kinds = self.duplicates + self.corrupt + self.invalid + self.late;
        if kinds > 1.0 {
            return Err(wrong("duplicates", &self.duplicates.to_string(), "duplicates, invalid, corrupt and late are shares of all records and add up to more than 1."));
        }
        if self.brokers.trim().is_empty() {
            return Err(wrong("brokers", &self.brokers, "Give host:port, several with commas."));
        }
        if self.topic.is_empty() || self.topic.contains('\0') {
            return Err(wrong("topic", &self.topic, "Give the topic's name."));
        }
        match self.rate {
            Rate::PerSecond(rate) if !(rate.is_finite() && rate > 0.0) => return Err(wrong("rate", &rate.to_string(), "Give records per second, or 'max'.")),
            _ => {}
        }
        if let Some(seconds) = self.seconds
            && !(seconds.is_finite() && seconds > 0.0 && seconds < 1e9)
        {
            return Err(wrong("seconds", &seconds.to_string(), "Give a number of seconds above 0."));
        }
        let counts = [
            ("customers", self.customers),
            ("hot-key-count", self.hot_key_count),
            ("partitions", self.partitions.map_or(1, u64::from)),
            ("replication", self.replication.map_or(1, u64::from)),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(wrong(name, "0", "Give a whole number from 1."));
            }
        }
        if self.salt_hot_keys > 10_000 {
            return Err(wrong("salt-hot-keys", &self.salt_hot_keys.to_string(), "About as many suffixes as the topic has partitions are enough."));
        }
        if let Guarantee::Transactional { records, interval } = &self.guarantee {
            if *records == 0 {
                return Err(wrong("transaction-records", "0", "Give a whole number from 1."));
            }
            if interval.is_zero() {
                return Err(wrong("transaction-interval", "0", "Give a time above 0, below the broker's transaction.timeout.ms."));
            }
        }
        Ok(())
    }
}

fn wrong(name: &str, value: &str, hint: &str) -> Error {
    Error::invalid("PRD0001", format!("the option \"{name}\" cannot be \"{value}\"")).hint(hint)
}

/// A rate for an argument parser: records per second, or `max` or `0` for as fast as it goes.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let plain = text.trim().replace(['_', ','], "");
    if plain.eq_ignore_ascii_case("max") {
        return Ok(Rate::Max);
    }
    match plain.parse::<f64>() {
        Ok(0.0) => Ok(Rate::Max),
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate)),
        _ => Err("give records per second, or 'max'".to_owned()),
    }
}

/// A share for an argument parser: `0.01`, or `1%`.
pub fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.trim().parse::<f64>(),
    };
    share.ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "give a share between 0 and 1, such as 0.01 or 1%".to_owned())
}

/// A property for an argument parser: `name=value`.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err("give name=value, such as linger.ms=5".to_owned()),
    }
}

/// A start of event time for an argument parser: RFC 3339, or `now`.
pub fn parse_start(text: &str) -> Result<Start, String> {
    if text.trim().eq_ignore_ascii_case("now") {
        return Ok(Start::Now);
    }
    chrono::DateTime::parse_from_rfc3339(text.trim()).map(|at| Start::At(at.timestamp_micros())).map_err(|_| "give a time such as 2026-01-01T00:00:00Z, or 'now'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_parsed() {
        assert_eq!(parse_rate("1_000"), Ok(Rate::PerSecond(1_000.0)));
        assert_eq!([parse_rate("max"), parse_rate("0")], [Ok(Rate::Max), Ok(Rate::Max)]);
        assert!(parse_rate("-1").is_err() && parse_rate("fast").is_err());
        assert_eq!((parse_share("0.25"), parse_share("5%")), (Ok(0.25), Ok(0.05)));
        assert!(parse_share("1.5").is_err() && parse_share("x").is_err());
        assert_eq!(parse_property("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".to_owned())));
        assert!(parse_property("linger.ms").is_err() && parse_property("=5").is_err());
        assert_eq!((parse_start("now"), parse_start("1970-01-01T00:00:01Z")), (Ok(Start::Now), Ok(Start::At(1_000_000))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let fine = ProduceOptions::new("localhost:9092", "t");
        fine.check().expect("fine");
        let wrong = |change: fn(&mut ProduceOptions)| {
            let mut options = fine.clone();
            change(&mut options);
            let error = options.check().expect_err("wrong");
            assert_eq!(error.code(), "PRD0001");
            error.message().to_owned()
        };
        assert_eq!(wrong(|o| o.late = 1.5), "the option \"late\" cannot be \"1.5\"");
        assert!(wrong(|o| (o.late, o.corrupt) = (0.6, 0.6)).contains("duplicates"));
        assert!(wrong(|o| o.customers = 0).contains("customers"));
        assert!(wrong(|o| o.seconds = Some(0.0)).contains("seconds"));
        assert!(wrong(|o| o.guarantee = Guarantee::Transactional { records: 0, interval: Duration::from_secs(1) }).contains("transaction-records"));
    }
}
