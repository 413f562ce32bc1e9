//! Counter-based randomness: a number per (seed, index, purpose), with no state to carry.

/// splitmix64's finisher.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The random numbers of one record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed) ^ index))
    }
    /// The number for one purpose.
    pub(crate) fn roll(self, purpose: u64) -> u64 {
        mix(self.0.wrapping_add(purpose.wrapping_mul(0xd1b5_4a32_d192_ed03)))
    }
}

/// Evenly spread over `0..bound`; `bound` must not be 0.
pub(crate) fn below(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> 64) as u64
}

/// A share such as 0.01 as a threshold on a random number.
pub(crate) fn threshold(share: f64) -> u64 {
    (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64
}
