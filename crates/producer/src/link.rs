//! The producer and how it is waited for.
//!
//! `BaseProducer::poll` serves one event when it may not wait, and otherwise does not return before its time, however
//! many events there were; `flush` of an empty producer returns at once. Hence the short waits here.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use crate::delivery::{Deliveries, Tally, Wire};

/// The producer and what comes back from it.
pub(crate) struct Link {
    pub producer: BaseProducer<Deliveries>,
    pub tally: Arc<Tally>,
}

impl Link {
    /// Handles what there is, without waiting.
    pub(crate) fn poll(&self) {
        loop {
            let before = self.tally.settled.load(Relaxed);
            // One event a call: the reports of one batch, or statistics, or an error.
            self.producer.poll(Duration::ZERO);
            if self.tally.settled.load(Relaxed) == before {
                return;
            }
        }
    }

    /// Waits until every record is settled; `false` if that takes longer.
    pub(crate) fn drain(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            // Makes batches leave whose linger is not over; its poll wakes up for reports. Short, because it does not
            // return before its time.
            let _ = self.producer.flush(Duration::from_millis(4));
            // SUBTLE: it waits for records alone, and returns at once where only an error is left to be heard, which counts as
            // in flight, too.
            self.poll();
        }
        self.poll();
        true
    }

    /// Gives up what is not settled, and reads the reports about it.
    pub(crate) fn purge(&self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
        self.drain(Duration::from_secs(5));
    }

    /// Waits for statistics that are younger than the last record.
    pub(crate) fn last_statistics(&self, interval: Duration) -> Wire {
        let before = self.tally.wire().events;
        let deadline = Instant::now() + interval * 2 + Duration::from_millis(200);
        while self.tally.wire().events == before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            self.poll();
        }
        self.tally.wire()
    }
}
