//! Times and intervals as text for people.

/// `2026-11-21T04:09:00.000001Z`; the number itself where it is out of the calendar's range.
pub fn timestamp(micros: i64) -> String {
    match chrono::DateTime::from_timestamp_micros(micros) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
        None => format!("{micros}us"),
    }
}

/// `1h 2m 3.5s`
pub fn interval(micros: i64) -> String {
    let seconds = micros.unsigned_abs() as f64 / 1e6;
    if seconds < 60.0 {
        return format!("{seconds:.3}s");
    }
    let whole = seconds as u64;
    match (whole / 3_600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (hours, minutes, _) => format!("{hours}h {minutes}m"),
    }
}
