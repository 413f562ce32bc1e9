//! Numbers from their digits.
//!
//! **Owns** the JSON number grammar, exact decimals and integers. **Does not own** the wording of refusals.
//!
//! I1: a decimal never passes through a float; a digit that does not fit is a refusal, not a rounding.

use crate::fault::{Fault, Step, found_byte};

/// Where the parts of a number lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    /// One past the last byte.
    pub(crate) end: usize,
    /// True if there is neither a point nor an exponent.
    pub(crate) whole: bool,
}

/// Why a number does not fit a decimal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// More fractional digits than the scale, not all of them zero.
    Scale,
    /// More digits than the precision.
    Precision,
}

const POWERS: [u64; 19] = {
    let mut powers = [1u64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).map(|b| b.wrapping_sub(b'0')).filter(|d| *d < 10)
}

/// Reads a number by the JSON grammar, starting at its first byte.
#[inline]
pub(crate) fn token(bytes: &[u8], start: usize) -> Step<Token> {
    let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
    match digit(bytes, at) {
        Some(0) if digit(bytes, at + 1).is_some() => {
            return Err(Fault::corrupt(at, "a number starts with a superfluous 0"));
        }
        Some(_) => at += 1,
        None => return Err(Fault::corrupt(at, format!("expected a digit, found {}", found_byte(bytes, at)))),
    }
    while digit(bytes, at).is_some() {
        at += 1;
    }
    let mut whole = true;
    if bytes.get(at) == Some(&b'.') {
        whole = false;
        at = digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        whole = false;
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        at = digits(bytes, at + 1 + sign)?;
    }
    Ok(Token { end: at, whole })
}

/// One digit or more.
fn digits(bytes: &[u8], start: usize) -> Step<usize> {
    let mut at = start;
    while digit(bytes, at).is_some() {
        at += 1;
    }
    if at == start {
        return Err(Fault::corrupt(at, format!("expected a digit, found {}", found_byte(bytes, at))));
    }
    Ok(at)
}

/// The common decimal: no exponent, at most 18 digits at its scale. `None` sends the number to [`token`] and [`decimal`].
#[inline]
pub(crate) fn short_decimal(bytes: &[u8], start: usize, precision: u8, scale: u8) -> Option<(i128, usize)> {
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let mut at = first;
    let mut value = 0u64;
    while let Some(d) = digit(bytes, at) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(d));
        at += 1;
    }
    let mut count = at - first;
    if count == 0 || (bytes[first] == b'0' && count > 1) {
        return None;
    }
    let mut missing = usize::from(scale);
    if bytes.get(at) == Some(&b'.') {
        let point = at;
        at += 1;
        while let Some(d) = digit(bytes, at) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(d));
            at += 1;
        }
        let fractional = at - point - 1;
        if fractional == 0 {
            return None;
        }
        missing = missing.checked_sub(fractional)?;
        count += fractional;
    }
    // Eighteen digits never overflow, so the wrapping above is exact for everything that passes here.
    if count + missing > 18 || matches!(bytes.get(at), Some(b'e' | b'E')) {
        return None;
    }
    let value = value * POWERS[missing];
    if precision < 18 && value >= POWERS[usize::from(precision)] {
        return None;
    }
    let value = i128::from(value);
    Some((if negative { -value } else { value }, at))
}

/// Any number text (`-?digits[.digits][e±digits]`, also with leading zeros) as a decimal of this scale, exactly.
pub(crate) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Misfit> {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], saturating(&text[at + 1..])),
        None => (text, 0),
    };
    let (whole, fraction) = match mantissa.iter().position(|b| *b == b'.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &[][..]),
    };
    let significant = || whole.iter().chain(fraction).map(|b| b - b'0');
    let length = whole.len() + fraction.len();
    let leading = significant().take_while(|d| *d == 0).count();
    if leading == length {
        return Ok(0);
    }
    let trailing = significant().rev().take_while(|d| *d == 0).count();
    let shift = exponent.saturating_sub(fraction.len() as i64).saturating_add(trailing as i64).saturating_add(i64::from(scale));
    if shift < 0 {
        return Err(Misfit::Scale);
    }
    let count = length - leading - trailing;
    if (count as i64).saturating_add(shift) > i64::from(precision) {
        return Err(Misfit::Precision);
    }
    let value = significant().skip(leading).take(count).fold(0i128, |value, d| value * 10 + i128::from(d));
    let value = value * 10i128.pow(shift as u32);
    Ok(if negative { -value } else { value })
}

/// An exponent, cut where it stops to matter.
fn saturating(text: &[u8]) -> i64 {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let value = text.iter().fold(0i64, |value, b| value.saturating_mul(10).saturating_add(i64::from(b - b'0')));
    if negative { -value } else { value }
}

/// `[+-]?digits` as an integer; `None` if it does not fit 64 bits.
#[inline]
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let (negative, text) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    if text.len() <= 18 {
        let value = text.iter().fold(0i64, |value, b| value * 10 + i64::from(b.wrapping_sub(b'0')));
        return Some(if negative { -value } else { value });
    }
    let mut value = 0i64;
    for byte in text {
        let d = i64::from(byte.wrapping_sub(b'0'));
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(d)? } else { value.checked_add(d)? };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str, precision: u8, scale: u8) -> Result<i128, Misfit> {
        let exact = decimal(text.as_bytes(), precision, scale);
        if let Some((short, end)) = short_decimal(text.as_bytes(), 0, precision, scale) {
            assert_eq!((Ok(short), end), (exact, text.len()), "{text}");
            return Ok(short);
        }
        exact
    }

    #[test]
    fn decimals_are_exact_or_refused() {
        assert_eq!(both("12.5", 12, 2), Ok(1250));
        assert_eq!(both("-0.01", 12, 2), Ok(-1));
        assert_eq!(both("-0", 12, 2), Ok(0));
        assert_eq!(both("-0.00", 12, 2), Ok(0));
        assert_eq!(both("9999999999.99", 12, 2), Ok(999_999_999_999));
        assert_eq!(both("10000000000", 12, 2), Err(Misfit::Precision));
        assert_eq!(both("1.230", 12, 2), Ok(123));
        assert_eq!(both("1.234", 12, 2), Err(Misfit::Scale));
        assert_eq!(both("1.5e2", 12, 2), Ok(15000));
        assert_eq!(both("1500E-3", 12, 2), Ok(150));
        assert_eq!(both("15e-3", 12, 2), Err(Misfit::Scale));
        assert_eq!(both("1e400", 38, 0), Err(Misfit::Precision));
        assert_eq!(both("1e-99999999999999999999", 38, 0), Err(Misfit::Scale));
        assert_eq!(both("0e99999999999999999999", 38, 0), Ok(0));
        assert_eq!(both("1e37", 38, 0), Ok(10i128.pow(37)));
        assert_eq!(both("99999999999999999999999999999999999999", 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(both("-9999999999999999999999999999.9999999999", 38, 10), Ok(1 - 10i128.pow(38)));
        assert_eq!(both("100000000000000000000000000000000000000", 38, 0), Err(Misfit::Precision));
        assert_eq!(both("0.1", 38, 38), Ok(10i128.pow(37)));
        assert_eq!(both("1", 38, 38), Err(Misfit::Precision));
        assert_eq!(both("0.10000000000000000000000000000000000000000000000000000", 12, 2), Ok(10));
        assert_eq!(both("0.30000000000000004", 18, 17), Ok(30_000_000_000_000_004));
        assert_eq!(both("123456789012345678", 18, 0), Ok(123_456_789_012_345_678));
        assert_eq!(both("00123.40", 12, 2), Ok(12340), "CSV may pad with zeros");
    }

    #[test]
    fn integers_reach_the_ends_of_their_range() {
        assert_eq!(integer(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(integer(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), None);
        assert_eq!(integer(b"-0"), Some(0));
        assert_eq!(integer(b"00000000000000000000000012"), Some(12));
    }
}
