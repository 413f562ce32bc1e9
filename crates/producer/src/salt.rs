//! Hot keys, and the suffixes that spread them.
//!
//! Which keys are hot is found in a first pass over the beginning of the traffic, with a sketch in bounded memory, as it
//! would be with traffic of unknown making: the profile is not asked. The pass makes no records, only their customers
//! (some 10 ms), and it is a pure function of the options (I1 of the crate).
//!
//! A suffix is chosen by the record's index, so it needs no state and is the same in every run. Records of one salted
//! customer are in order per suffix only; who reads them cuts the key at `#` and has to bring them together again.

use hashbrown::HashSet;
use watershed_simulator::Simulator;

use crate::heavy::HeavyHitters;

/// Records looked at.
const FIRST_PASS: u64 = 200_000;

/// Which customers are salted, and how many ways.
#[derive(Debug, Clone, Default)]
pub struct Salt {
    /// Hot customers and the share of the traffic each surely had in the first pass, the hottest first.
    pub hot: Vec<(u64, f64)>,
    ways: u32,
    salted: HashSet<u64>,
}

impl Salt {
    /// Finds the customers that make at least `threshold` of the traffic; from two ways on they are salted.
    pub fn find(simulator: &Simulator, records: Option<u64>, threshold: f64, ways: u32) -> Self {
        let looked_at = records.unwrap_or(FIRST_PASS).clamp(1, FIRST_PASS);
        // A count may be over by 1/counters of what was counted: an eighth of the threshold.
        let counters = (8.0 / threshold.max(1e-4)).ceil() as usize;
        let mut sketch = HeavyHitters::new(counters.clamp(1_024, 65_536));
        for index in 0..looked_at {
            sketch.add(simulator.customer_of(index));
        }
        let least = (threshold * looked_at as f64).ceil() as u64;
        // In a few records, one customer's chance second record is no sign of anything.
        let hot: Vec<_> = sketch.surely(least.max(10)).into_iter().map(|(customer, count)| (customer, count as f64 / sketch.total() as f64)).collect();
        let salted = if ways > 1 { hot.iter().map(|(customer, _)| *customer).collect() } else { HashSet::new() };
        Self { hot, ways, salted }
    }

    /// The suffix of a record's key, without its `#`; `None` where the customer is not salted.
    pub fn suffix(&self, index: u64, customer: u64) -> Option<u64> {
        if self.salted.is_empty() || !self.salted.contains(&customer) {
            return None;
        }
        // Fibonacci hashing: neighbouring indexes, and every n-th one, are spread over all suffixes.
        let spread = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Some((spread * u64::from(self.ways)) >> 32)
    }

    /// How many ways hot keys are spread; 1: not at all.
    pub fn ways(&self) -> u32 {
        self.ways.max(1)
    }
}

#[cfg(test)]
mod tests {
    use watershed_simulator::Profile;

    use super::*;

    #[test]
    fn finds_who_is_hot_without_being_told() {
        let simulator = Simulator::new(Profile { hot_customers_share: 0.2, hot_customers: 4, ..Profile::default() });
        let salt = Salt::find(&simulator, None, 0.25 / 12.0, 6);
        let (mut found, mut expected): (Vec<_>, _) = (salt.hot.iter().map(|(customer, _)| *customer).collect(), simulator.hot_customers());
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        assert!(salt.hot.iter().all(|(_, share)| (0.045..0.055).contains(share)), "{:?}", salt.hot);
        let nobody = Salt::find(&Simulator::new(Profile::default()), None, 0.25 / 12.0, 6);
        assert!(nobody.hot.is_empty());
    }

    #[test]
    fn suffixes_are_even_and_only_for_the_hot() {
        let simulator = Simulator::new(Profile { hot_customers_share: 0.5, ..Profile::default() });
        let salt = Salt::find(&simulator, None, 0.1, 7);
        let hot = simulator.hot_customers()[0];
        let mut counts = [0u64; 7];
        for index in 0..70_000 {
            counts[salt.suffix(index, hot).expect("hot") as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_900..10_100).contains(count)), "{counts:?}");
        assert_eq!(salt.suffix(3, hot + 1), None);
        assert_eq!(Salt::find(&simulator, None, 0.1, 1).suffix(3, hot), None);
    }
}
