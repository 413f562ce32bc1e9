//! Digits and times written by hand: formatting machinery costs more than the rest of a record.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Exactly `width` digits, zeros in front.
pub(crate) fn digits(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 20];
    for slot in buffer[..width].iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&buffer[..width]);
}

/// As many digits as it takes.
pub(crate) fn number(value: u64, out: &mut Vec<u8>) {
    digits(value, value.checked_ilog10().unwrap_or(0) as usize + 1, out);
}

/// The lowest `width` hexadecimal digits.
pub(crate) fn hex(value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [0u8; 16];
    for (place, slot) in buffer[..width].iter_mut().rev().enumerate() {
        *slot = HEX[(value >> (4 * place)) as usize & 15];
    }
    out.extend_from_slice(&buffer[..width]);
}

/// Cents as `12.34`.
pub(crate) fn cents(value: u64, out: &mut Vec<u8>) {
    number(value / 100, out);
    out.push(b'.');
    digits(value % 100, 2, out);
}

/// Microseconds since 1970 as `2026-01-01T00:00:00.000000Z`.
pub(crate) fn timestamp(micros: i64, out: &mut Vec<u8>) {
    let days = micros.div_euclid(86_400_000_000);
    let within = micros.rem_euclid(86_400_000_000) as u64;
    let (year, month, day) = civil(days);
    digits(year.clamp(0, 9_999) as u64, 4, out);
    out.push(b'-');
    digits(month, 2, out);
    out.push(b'-');
    digits(day, 2, out);
    out.push(b'T');
    let seconds = within / 1_000_000;
    digits(seconds / 3_600, 2, out);
    out.push(b':');
    digits(seconds / 60 % 60, 2, out);
    out.push(b':');
    digits(seconds % 60, 2, out);
    out.push(b'.');
    digits(within % 1_000_000, 6, out);
    out.push(b'Z');
}

/// Days since 1970 to year, month, day (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u64, day as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_agree_with_chrono() {
        for micros in [0, 951_782_400_000_000, 1_767_225_600_123_456, 4_102_444_799_999_999, 1_709_164_800_000_001] {
            let mut out = Vec::new();
            timestamp(micros, &mut out);
            let expected = chrono::DateTime::from_timestamp_micros(micros).expect("in range");
            assert_eq!(String::from_utf8_lossy(&out), expected.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string());
        }
    }

    #[test]
    fn numbers_have_no_zeros_in_front() {
        let mut out = Vec::new();
        for value in [0, 5, 99, 100, 123_456] {
            cents(value, &mut out);
            out.push(b' ');
        }
        assert_eq!(out, b"0.00 0.05 0.99 1.00 1234.56 ");
    }
}
