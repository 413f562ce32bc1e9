//! Times as Postgres writes them: without noughts that say nothing, and in the zone the client has set.

use std::error::Error;

use arrow::array::timezone::Tz;
use bytes::{BufMut, BytesMut};
use chrono::{DateTime, Offset, TimeZone};
use datafusion_postgres::pgwire::types::ToSqlText;
use datafusion_postgres::pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// Microseconds from 1970 to 2000, where Postgres begins to count.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Microseconds since 1970; a `timestamptz` if it is shown in a zone.
#[derive(Debug)]
pub(crate) struct Moment {
    pub micros: i64,
    pub zone: Option<Tz>,
}

type Written = Result<IsNull, Box<dyn Error + Sync + Send>>;

impl ToSqlText for Moment {
    fn to_sql_text(&self, _: &Type, out: &mut BytesMut, _: &FormatOptions) -> Written {
        let moment = DateTime::from_timestamp_micros(self.micros).ok_or("the time is out of range")?.naive_utc();
        let offset = self.zone.map(|zone| zone.offset_from_utc_datetime(&moment).fix());
        let local = offset.map_or(moment, |offset| moment + offset);
        let written = local.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
        let short = written.trim_end_matches('0').trim_end_matches('.');
        // `10:20:30.000000` without its fraction; `10:20:00` keeps its seconds.
        out.put_slice(if written.ends_with(".000000") { &written.as_bytes()[..written.len() - 7] } else { short.as_bytes() });
        if let Some(offset) = offset {
            let seconds = offset.local_minus_utc();
            let (sign, seconds) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
            let mut zone = format!("{sign}{:02}", seconds / 3600);
            if seconds % 3600 != 0 {
                zone.push_str(&format!(":{:02}", seconds % 3600 / 60));
            }
            out.put_slice(zone.as_bytes());
        }
        Ok(IsNull::No)
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Written {
        out.put_i64(self.micros.checked_sub(POSTGRES_EPOCH).ok_or("the time is out of range")?);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noughts_are_left_out_and_zones_are_kept() {
        let text = |micros, zone: Option<&str>| {
            let mut out = BytesMut::new();
            let moment = Moment { micros, zone: zone.map(|z| z.parse().expect("a zone")) };
            moment.to_sql_text(&Type::TIMESTAMP, &mut out, &FormatOptions::default()).expect("a time");
            String::from_utf8(out.to_vec()).expect("text")
        };
        assert_eq!(text(1_767_225_600_000_000, None), "2026-01-01 00:00:00");
        assert_eq!(text(1_767_225_600_120_000, Some("UTC")), "2026-01-01 00:00:00.12+00");
        assert_eq!(text(1_767_225_600_000_000, Some("Europe/Berlin")), "2026-01-01 01:00:00+01");
        assert_eq!(text(1_767_225_600_000_000, Some("+05:30")), "2026-01-01 05:30:00+05:30");
        assert_eq!(text(-1, Some("UTC")), "1969-12-31 23:59:59.999999+00");
    }
}
