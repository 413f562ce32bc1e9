//! ISO-8601 dates and timestamps.
//!
//! **Owns** the fixed layouts `YYYY-MM-DD` and `YYYY-MM-DD[T ]HH:MM:SS[.1-9 digits][Z|±HH[[:]MM]]`.
//! **Does not own** any other spelling: everything else is refused. There is no hour 24 and no second 60.

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 1970-01-01 of `YYYY-MM-DD`.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let text: &[u8; 10] = text.try_into().ok()?;
    days(text)
}

/// Microseconds since 1970-01-01 UTC; digits beyond microseconds are cut.
#[inline]
pub(crate) fn timestamp(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<10>()?;
    let midnight = i64::from(days(head)?) * MICROS_PER_DAY;
    if rest.is_empty() {
        return Some(midnight);
    }
    let (clock, rest) = rest.split_first_chunk::<9>()?;
    if !matches!(clock[0], b'T' | b' ') || clock[3] != b':' || clock[6] != b':' {
        return None;
    }
    let (hour, minute, second) = (two(clock[1], clock[2])?, two(clock[4], clock[5])?, two(clock[7], clock[8])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    let (micros, rest) = fraction(rest)?;
    Some(midnight + seconds * 1_000_000 + micros - offset(rest)? * 1_000_000)
}

/// `.1-9 digits`, if there is a point.
#[inline]
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', text)) = text.split_first() else { return Some((0, text)) };
    let mut micros = 0;
    let mut count = 0;
    for byte in text.iter().take_while(|b| b.is_ascii_digit()) {
        if count < 6 {
            micros = micros * 10 + i64::from(byte - b'0');
        }
        count += 1;
    }
    if !(1..=9).contains(&count) {
        return None;
    }
    for _ in count..6 {
        micros *= 10;
    }
    Some((micros, &text[count..]))
}

/// Seconds east of UTC of `Z`, `±HH`, `±HHMM`, `±HH:MM` or nothing.
#[inline]
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *text {
        [] | [b'Z'] => return Some(0),
        [sign, a, b] => (sign, two(a, b)?, 0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, two(a, b)?, two(c, d)?),
        _ => return None,
    };
    if hour > 15 || minute > 59 {
        return None;
    }
    let seconds = i64::from(hour * 3600 + minute * 60);
    match sign {
        b'+' => Some(seconds),
        b'-' => Some(-seconds),
        _ => None,
    }
}

#[inline]
fn two(a: u8, b: u8) -> Option<u32> {
    let (a, b) = (a.wrapping_sub(b'0'), b.wrapping_sub(b'0'));
    (a < 10 && b < 10).then(|| u32::from(a) * 10 + u32::from(b))
}

/// Howard Hinnant's days from the civil calendar, for years 0 to 9999.
#[inline]
fn days(text: &[u8; 10]) -> Option<i32> {
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two(text[0], text[1])? * 100 + two(text[2], text[3])?;
    let (month, day) = (two(text[5], text[6])?, two(text[8], text[9])?);
    if !(1..=12).contains(&month) || day < 1 || (day > 28 && day > month_length(year, month)) {
        return None;
    }
    // Years start in March, shifted by 400 so that nothing is negative.
    let shifted = year + 400 - u32::from(month <= 2);
    let era = shifted / 400;
    let year_of_era = shifted % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some((era * 146_097 + day_of_era) as i32 - 146_097 - 719_468)
}

fn month_length(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_fixed_layouts_and_nothing_else() {
        let at = |text: &str| timestamp(text.as_bytes());
        let base = 1_709_210_096_000_000; // 2024-02-29 12:34:56 UTC
        assert_eq!(at("1970-01-01"), Some(0));
        assert_eq!(at("1969-12-31T23:59:59.999999Z"), Some(-1));
        assert_eq!(at("2024-02-29T12:34:56"), Some(base));
        assert_eq!(at("2024-02-29 12:34:56Z"), Some(base));
        assert_eq!(at("2024-02-29T12:34:56.5"), Some(base + 500_000));
        assert_eq!(at("2024-02-29T12:34:56.123456789Z"), Some(base + 123_456), "cut, not rounded");
        assert_eq!(at("2024-02-29T12:34:56+02:30"), Some(base - 9_000_000_000));
        assert_eq!(at("2024-02-29T12:34:56-0230"), Some(base + 9_000_000_000));
        assert_eq!(at("2024-02-29T12:34:56.25+02"), Some(base + 250_000 - 7_200_000_000));
        assert_eq!(at("0000-01-01"), Some(-719_528 * MICROS_PER_DAY));
        assert_eq!(at("9999-12-31T23:59:59.999999"), Some(253_402_300_799_999_999));
        for refused in [
            "",
            "2023-02-29",
            "1900-02-29",
            "2024-04-31",
            "2024-13-01",
            "2024-00-01",
            "2024-01-00",
            "2024-1-1",
            "2024-01-01T",
            "2024-01-01T24:00:00",
            "2024-01-01T23:60:00",
            "2024-01-01T23:59:60",
            "2024-01-01T12:00",
            "2024-01-01T12:00:00.",
            "2024-01-01T12:00:00.1234567890",
            "2024-01-01T12:00:00z",
            "2024-01-01T12:00:00+2",
            "2024-01-01T12:00:00+25:00",
            "2024-01-01T12:00:00 Z",
            "2024-01-01t12:00:00",
            " 2024-01-01",
            "2024-01-01 ",
            "+2024-01-01",
            "2024/01/01",
            "2024-01-01T12:00:00+02:3",
            "2024-01-01T12:00:00Z ",
            "1704067200",
            "2024-01-01T1 :00:00",
            "٢٠٢٤-٠١-٠١",
        ] {
            assert_eq!(at(refused), None, "{refused}");
        }
        assert_eq!(date(b"2000-03-01"), Some(11_017));
        assert_eq!(date(b"2000-03-01T00:00:00"), None);
    }
}
