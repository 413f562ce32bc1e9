//! `INTERVAL '10 minutes'`, `INTERVAL '1' MINUTE`, `INTERVAL '1 hour 30 minutes'`, `INTERVAL '01:30:00'`.
//!
//! **Owns** intervals of a fixed length, in microseconds. Months and years have none and are refused.

use datafusion::sql::sqlparser::tokenizer::Token;
use watershed_types::Result;

use crate::cursor::Cursor;
use crate::error::code;

const HINT: &str = "Write it as INTERVAL '10 minutes', with seconds, minutes, hours, days or weeks.";
/// Digits kept behind the point.
const DECIMALS: u32 = 9;

/// Whether an interval starts here, perhaps with a sign.
pub(crate) fn starts(cursor: &Cursor<'_>) -> bool {
    let signed = matches!(cursor.peek(), Token::Minus | Token::Plus);
    cursor.is_nth(usize::from(signed), "INTERVAL")
}

/// An interval of any sign, in microseconds.
pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<i64> {
    let negative = cursor.eat_token(&Token::Minus);
    if !negative {
        cursor.eat_token(&Token::Plus);
    }
    cursor.expect("INTERVAL")?;
    let spot = cursor.spot();
    let Some(text) = cursor.string() else {
        return Err(cursor.expected("a quoted length such as '10 minutes'").hint(HINT));
    };
    cursor.advance();
    let unit = match cursor.peek() {
        Token::Word(word) if word.quote_style.is_none() && unit_micros(&word.value).is_some() => Some(word.value.clone()),
        Token::Word(word) if is_calendar_unit(&word.value) => return Err(calendar(cursor.spot())),
        _ => None,
    };
    if unit.is_some() {
        cursor.advance();
    }
    if text.split(|c: char| !c.is_alphabetic()).any(is_calendar_unit) {
        return Err(calendar(spot));
    }
    let micros = micros(&text, unit.as_deref()).filter(|micros| *micros != i64::MIN);
    let Some(micros) = micros else {
        return Err(spot.error(code::INTERVAL, format!("\"{}\" is not an interval", text.escape_debug())).hint(HINT));
    };
    Ok(if negative { -micros } else { micros })
}

fn calendar(spot: crate::text::Spot<'_>) -> watershed_types::Error {
    spot.error(code::INTERVAL, "months and years differ in length").hint("Give the length in days, hours or minutes.")
}

fn is_calendar_unit(word: &str) -> bool {
    matches!(word.to_ascii_lowercase().as_str(), "month" | "months" | "mon" | "mons" | "year" | "years" | "quarter" | "quarters" | "decade" | "decades")
}

fn unit_micros(word: &str) -> Option<i128> {
    Some(match word.to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" | "us" => 1,
        "millisecond" | "milliseconds" | "ms" => 1_000,
        "second" | "seconds" | "sec" | "secs" | "s" => 1_000_000,
        "minute" | "minutes" | "min" | "mins" | "m" => 60_000_000,
        "hour" | "hours" | "h" => 3_600_000_000,
        "day" | "days" | "d" => 86_400_000_000,
        "week" | "weeks" | "w" => 604_800_000_000,
        _ => return None,
    })
}

/// `text` is what the quotes hold, `unit` the word behind them.
pub(crate) fn micros(text: &str, unit: Option<&str>) -> Option<i64> {
    let text = text.trim();
    if let Some(unit) = unit {
        return i64::try_from(scaled(text, unit_micros(unit)?)?).ok();
    }
    let mut total = 0i128;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ':' | '+' | '-'))).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.contains(':') {
            total = total.checked_add(clock(number)?)?;
            rest = after.trim_start();
            continue;
        }
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (word, after) = after.split_at(end);
        total = total.checked_add(scaled(number, unit_micros(word)?)?)?;
        rest = after.trim_start();
    }
    i64::try_from(total).ok()
}

/// `hh:mm[:ss[.fff]]`.
fn clock(text: &str) -> Option<i128> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts.iter().any(|part| part.contains(['-', '+'])) {
        return None;
    }
    let hours = scaled(parts.first()?, 3_600_000_000)?;
    let minutes = scaled(parts.get(1)?, 60_000_000)?;
    let seconds = parts.get(2).map_or(Some(0), |part| scaled(part, 1_000_000))?;
    Some(sign * (hours + minutes + seconds))
}

/// A decimal number times a unit, without rounding on the way.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number =
        !(whole.is_empty() && fraction.is_empty()) && whole.len() <= 18 && fraction.len() <= DECIMALS as usize && whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !is_number {
        return None;
    }
    let one = 10i128.pow(DECIMALS);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
    Some(sign * ((whole * one + fraction) * unit / one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_read_as_people_write_them() {
        assert_eq!(micros("10 minutes", None), Some(600_000_000));
        assert_eq!(micros("1 hour 30 minutes", None), Some(5_400_000_000));
        assert_eq!(micros("01:30:00.5", None), Some(5_400_500_000));
        assert_eq!(micros("-4", Some("MINUTE")), Some(-240_000_000));
        assert_eq!(micros("0.001", Some("SECOND")), Some(1_000));
        assert_eq!(micros("90s", None), Some(90_000_000));
        for wrong in ["", "ten minutes", "10", "1 fortnight", "999999999999999999 weeks", "1:2:3:4", "--1 day", "1.2.3 s"] {
            assert_eq!(micros(wrong, None), None, "{wrong}");
        }
    }
}
