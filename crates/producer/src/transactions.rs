//! Transactions one after the other, each of so many records or so long.
//!
//! A commit waits until every record of the transaction is acknowledged; the sender waits with it. Whatever fails aborts
//! the transaction and ends the run: records after it would otherwise come without those before.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;

use crate::link::Link;
use crate::report::Transactions;

/// One attempt of a call, and how often a call that may be repeated is.
const ATTEMPT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 6;

/// The transactions of a run.
pub(crate) struct Transacting {
    most: u64,
    interval: Duration,
    open: Option<Open>,
    totals: Transactions,
}

struct Open {
    since: Instant,
    records: u64,
    /// Acknowledged in the run when it began.
    acknowledged: u64,
}

impl Transacting {
    /// Registers with the brokers, which ends what an earlier producer of the same `transactional.id` left open.
    pub(crate) fn start(link: &Link, most: u64, interval: Duration) -> Result<Self, KafkaError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match link.producer.init_transactions(ATTEMPT) {
                Ok(()) => return Ok(Self { most, interval, open: None, totals: Transactions::default() }),
                Err(KafkaError::Transaction(error)) if error.is_retriable() && attempt < ATTEMPTS => link.poll(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Records that still fit, of `wanted`; opens a transaction if none is.
    pub(crate) fn room(&mut self, link: &Link, wanted: u64) -> Result<u64, String> {
        if self.open.is_none() {
            link.producer.begin_transaction().map_err(|e| e.to_string())?;
            self.open = Some(Open { since: Instant::now(), records: 0, acknowledged: link.tally.acknowledged.load(Relaxed) });
        }
        Ok(wanted.min(self.most - self.open.as_ref().map_or(0, |open| open.records)))
    }

    /// So many records have gone into the open transaction.
    pub(crate) fn sent(&mut self, records: u64) {
        if let Some(open) = &mut self.open {
            open.records += records;
        }
    }

    /// Whether the open transaction has lasted long enough or is full.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.open.as_ref().is_some_and(|open| open.records >= self.most || now.duration_since(open.since) >= self.interval)
    }

    /// Commits the open transaction, if any; its records must have been settled before. On failure it is aborted if
    /// that is possible, and the reason is given.
    pub(crate) fn commit(&mut self, link: &Link) -> Result<(), String> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let acknowledged = || link.tally.acknowledged.load(Relaxed) - open.acknowledged;
        for attempt in 1.. {
            match link.producer.commit_transaction(ATTEMPT) {
                Ok(()) => {
                    // One that was opened as the records ended has none.
                    self.totals.committed += u64::from(open.records > 0);
                    self.totals.records += acknowledged();
                    return Ok(());
                }
                Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
                    self.abort(link, acknowledged);
                    return Err(format!("the transaction was aborted: {}", error.string()));
                }
                Err(KafkaError::Transaction(error)) if error.is_retriable() && attempt < ATTEMPTS => link.poll(),
                Err(error) => {
                    self.totals.unknown_records += acknowledged();
                    return Err(format!("the commit was not answered: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Aborts the open transaction, if any.
    pub(crate) fn give_up(&mut self, link: &Link) {
        if let Some(open) = self.open.take() {
            self.abort(link, || link.tally.acknowledged.load(Relaxed) - open.acknowledged);
        }
    }

    fn abort(&mut self, link: &Link, acknowledged: impl Fn() -> u64) {
        // An abort waits for reports that nobody would read meanwhile: all records are settled before.
        link.purge();
        match link.producer.abort_transaction(ATTEMPT) {
            Ok(()) => {
                self.totals.aborted += 1;
                self.totals.aborted_records += acknowledged();
            }
            Err(error) => {
                // The broker aborts it itself after transaction.timeout.ms: nobody commits it any more.
                tracing::warn!(%error, "a transaction could not be aborted");
                self.totals.aborted += 1;
                self.totals.aborted_records += acknowledged();
            }
        }
    }

    pub(crate) fn totals(&self) -> Transactions {
        self.totals
    }
}
