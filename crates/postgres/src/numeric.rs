//! Decimals as Postgres' binary `numeric`: digits of base 10,000, exact.

/// Appends length and value of `value / 10^scale`.
pub(crate) fn put(out: &mut Vec<u8>, value: i128, scale: u8) {
    // Least significant first; 39 decimal digits make at most 11 groups.
    let mut groups = [0u16; 12];
    let mut count = 0usize;
    let mut rest = value.unsigned_abs();
    // The decimal point falls between groups, so the lowest group may be a partial one.
    let partial = u32::from(scale % 4);
    if partial != 0 && rest != 0 {
        let cut = 10u128.pow(partial);
        groups[0] = (rest % cut) as u16 * 10u16.pow(4 - partial);
        rest /= cut;
        count = 1;
    }
    while rest > u128::from(u64::MAX) {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    let mut rest = rest as u64;
    while rest != 0 {
        groups[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    let fraction = usize::from(scale).div_ceil(4);
    let weight = if count == 0 { 0 } else { count as i16 - 1 - fraction as i16 };
    let zeros = groups[..count].iter().take_while(|group| **group == 0).count();
    let digits = count - zeros;
    let sign: u16 = if value < 0 { 0x4000 } else { 0 };
    out.extend_from_slice(&(8 + 2 * digits as i32).to_be_bytes());
    out.extend_from_slice(&(digits as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&u16::from(scale).to_be_bytes());
    for group in groups[zeros..count].iter().rev() {
        out.extend_from_slice(&group.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::put;

    /// Reads the binary form back as value × 10^scale.
    fn read(bytes: &[u8], scale: u8) -> i128 {
        let word = |i: usize| i16::from_be_bytes([bytes[4 + 2 * i], bytes[5 + 2 * i]]);
        assert_eq!(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize, bytes.len() - 4);
        assert_eq!(word(3), i16::from(scale));
        let mut value = 0i128;
        for digit in 0..word(0) {
            let power = 4 * i32::from(word(1) - digit) + i32::from(scale);
            let group = i128::from(word(4 + digit as usize));
            value += if power >= 0 { group * 10i128.pow(power as u32) } else { group / 10i128.pow(power.unsigned_abs()) };
        }
        if word(2) == 0 { value } else { -value }
    }

    #[test]
    fn every_scale_and_size_is_exact() {
        for scale in 0..=38u8 {
            for value in [0, 1, 9, 10, 9_999, 10_000, 10_001, 123_456_789, u64::MAX.into(), i128::from(u64::MAX) + 1, 10i128.pow(37), 10i128.pow(38) - 1] {
                for value in [value, -value] {
                    let mut bytes = Vec::new();
                    put(&mut bytes, value, scale);
                    assert_eq!(read(&bytes, scale), value, "{value} at scale {scale}");
                }
            }
        }
    }
}
