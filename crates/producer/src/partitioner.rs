//! Which partition a key goes to: the Java client's hash, which librdkafka calls `murmur2` and `murmur2_random`.

/// Murmur2 as the Java client computes it.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key that is not null, of `partitions` (at least 1).
pub fn java_partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Whether a value of `partitioner` sends keys where [`java_partition`] says.
pub(crate) fn is_java(name: &str) -> bool {
    matches!(name, "murmur2" | "murmur2_random")
}

/// Records per partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(pub Vec<u64>);

impl Counts {
    pub(crate) fn new(partitions: u32) -> Self {
        Self(vec![0; partitions as usize])
    }
    pub(crate) fn add(&mut self, partition: u32) {
        if let Some(count) = self.0.get_mut(partition as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_like_the_java_client() {
        // From org.apache.kafka.common.utils.UtilsTest.
        let known =
            [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536), ("a-little-bit-longer-string", -1_486_304_829), ("abc", 479_470_107)];
        for (text, hash) in known {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
        assert_eq!(java_partition(b"21", 8), ((-973_932_308i32 & 0x7fff_ffff) % 8) as u32);
    }
}
