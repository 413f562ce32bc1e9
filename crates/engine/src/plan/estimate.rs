//! How much state a plan will hold, before it runs: rates times lengths of time times bytes.
//!
//! **Owns** the sums. **Does not own** what operators keep (`operator::keeps`), nor how a rate is known.
//!
//! I1: what is called a bound is one: every event counts as a key, a group and a row of its own. Joins are counted as if each
//!     row met one other.

use std::collections::BTreeMap;

use super::{Input, Plan, WindowKind};
use crate::operator::{Keeps, KeptFor, Step, state_width, width};

/// What a deduplication takes for a key at most; see `operator::table128`.
const KEY: u64 = 38;

/// What an operator will hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Estimate {
    /// At most so many entries and bytes.
    AtMost(Amount),
    /// At least that, and how much more depends on the data.
    AtLeast(Amount),
    /// So much more every day, at most.
    Grows(Amount),
    /// So many bytes for each key, of which nobody knows how many there will be.
    EachKey(Amount),
    /// A source has no known rate.
    Unknown(String),
    /// It keeps nothing.
    Nothing,
}

/// Entries and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Amount {
    /// Entries.
    pub entries: f64,
    /// Bytes in memory.
    pub bytes: f64,
}

impl Estimate {
    /// Bytes that an amount of memory can be compared with.
    pub fn bound(&self) -> Option<f64> {
        match self {
            Estimate::AtMost(amount) | Estimate::AtLeast(amount) => Some(amount.bytes),
            _ => None,
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        let told = |amount: &Amount| format!("{} of about {}, {}", entries(amount.entries), bytes(amount.bytes / amount.entries.max(1.0)), bytes(amount.bytes));
        match self {
            Estimate::AtMost(amount) => format!("at most {}", told(amount)),
            Estimate::AtLeast(amount) => format!("at least {}, and more the longer sessions last", told(amount)),
            Estimate::Grows(amount) => format!("grows for ever: every day by at most {}", told(amount)),
            Estimate::EachKey(amount) => format!("about {} for each key, for ever; how many keys come nobody knows before", bytes(amount.bytes)),
            Estimate::Unknown(source) => format!("not known without the rate of source \"{source}\": say --rate {source}=EVENTS_A_SECOND"),
            Estimate::Nothing => "nothing".to_owned(),
        }
    }
}

/// `1,234 entries`, `5.6 million entries`.
fn entries(count: f64) -> String {
    match count {
        count if count >= 1e9 => format!("{:.1} billion entries", count / 1e9),
        count if count >= 1e6 => format!("{:.1} million entries", count / 1e6),
        count => format!("{count:.0} entries"),
    }
}

/// `1.5 GB`.
pub fn bytes(count: f64) -> String {
    match count {
        count if count >= 1e12 => format!("{:.1} TB", count / 1e12),
        count if count >= 1e9 => format!("{:.1} GB", count / 1e9),
        count if count >= 1e6 => format!("{:.1} MB", count / 1e6),
        count if count >= 1e3 => format!("{:.1} kB", count / 1e3),
        count => format!("{count:.0} bytes"),
    }
}

/// What rows do on their way: how many there are, and how long their windows are.
#[derive(Clone, Copy)]
struct Flow<'a> {
    /// Events a second, or the source whose rate is not known.
    rate: Result<f64, &'a str>,
    /// The length of their windows, microseconds.
    window: i64,
}

/// For every operator what it will hold, if sources have these rates in events a second of event time.
pub fn estimates(plan: &Plan, rates: &BTreeMap<String, f64>) -> BTreeMap<String, Estimate> {
    let mut found = BTreeMap::new();
    let mut tables: Vec<Flow<'_>> = Vec::new();
    for (index, table) in plan.tables.iter().enumerate() {
        let delay = plan.root_sources(index).into_iter().filter_map(|source| plan.sources[source].watermark).map(|(_, delay)| delay).max().unwrap_or(0);
        let of = |input: &Input| match *input {
            Input::Source(source) => Flow { rate: rates.get(&plan.sources[source].name).copied().ok_or(&plan.sources[source].name), window: 0 },
            Input::Table(table) => tables[table],
        };
        let mut flows: Vec<Flow<'_>> = table.inputs.iter().map(of).collect();
        for step in &table.steps {
            if let Some((id, _)) = step.stateful() {
                let of_one = |keeps: Keeps| vec![keeps];
                let keeps = match step {
                    Step::Dedup(spec) => of_one(Keeps { span: KeptFor::Time(spec.within.saturating_mul(2)), bytes: KEY }),
                    Step::Aggregate(spec) => {
                        let keys: Vec<_> = spec.schema.fields().iter().take(spec.groups.len()).map(|field| field.data_type()).collect();
                        of_one(Keeps { span: KeptFor::Window(0), bytes: 32 + width(keys) + state_width(&spec.functions) })
                    }
                    Step::Operator(spec) => spec.keeps(),
                    _ => vec![],
                };
                found.insert(id.to_owned(), add(&keeps, &flows, delay));
            }
            follow(step, &mut flows);
        }
        tables.push(flows.into_iter().next().unwrap_or(Flow { rate: Ok(0.0), window: 0 }));
    }
    found
}

fn follow(step: &Step, flows: &mut Vec<Flow<'_>>) {
    let copies = match step {
        Step::Assign(spec) => {
            let (window, copies) = match spec.kind {
                WindowKind::Tumble { size, .. } => (size, 1),
                WindowKind::Hop { slide, size, .. } => (size, (size + slide - 1) / slide.max(1)),
                WindowKind::Cumulate { step, size, .. } => (size, (size + step - 1) / step.max(1)),
                WindowKind::Session { gap } => (gap, 1),
            };
            flows.iter_mut().for_each(|flow| flow.window = window);
            copies as f64
        }
        Step::Expand(spec) => spec.sets.len() as f64,
        Step::Operator(_) => {
            // What several inputs yield is counted as one row for each of theirs.
            let rate = flows.iter().try_fold(0.0, |sum, flow| Ok(sum + flow.rate?));
            let window = flows.iter().map(|flow| flow.window).max().unwrap_or(0);
            *flows = vec![Flow { rate, window }];
            return;
        }
        _ => return,
    };
    for flow in flows {
        flow.rate = flow.rate.map(|rate| rate * copies);
    }
}

fn add(keeps: &[Keeps], flows: &[Flow<'_>], delay: i64) -> Estimate {
    let mut sum: Option<Estimate> = None;
    for (keeps, flow) in keeps.iter().zip(flows) {
        let rate = match flow.rate {
            Ok(rate) => rate,
            Err(source) => return Estimate::Unknown(source.to_owned()),
        };
        let of = |micros: i64| {
            let entries = rate * (micros.saturating_add(delay) as f64 / 1e6);
            Amount { entries, bytes: entries * keeps.bytes as f64 }
        };
        let one = match keeps.span {
            KeptFor::Time(micros) => Estimate::AtMost(of(micros)),
            KeptFor::Window(longer) => Estimate::AtMost(of(flow.window.saturating_add(longer))),
            KeptFor::AtLeast(micros) => Estimate::AtLeast(of(micros)),
            KeptFor::EachKey(count) => Estimate::EachKey(Amount { entries: count as f64, bytes: (count * keeps.bytes) as f64 }),
            KeptFor::ForEver => Estimate::Grows(Amount { entries: rate * 86_400.0, bytes: rate * 86_400.0 * keeps.bytes as f64 }),
        };
        sum = Some(match sum {
            None => one,
            Some(other) => both(other, one),
        });
    }
    sum.unwrap_or(Estimate::Nothing)
}

/// Of two inputs: what is known least of says what the sum is.
fn both(one: Estimate, other: Estimate) -> Estimate {
    use Estimate::{AtLeast, AtMost, EachKey, Grows};
    let plus = |a: Amount, b: Amount| Amount { entries: a.entries + b.entries, bytes: a.bytes + b.bytes };
    match (one, other) {
        (Grows(a), Grows(b)) => Grows(plus(a, b)),
        (Grows(a), _) | (_, Grows(a)) => Grows(a),
        (EachKey(a), EachKey(b)) => EachKey(plus(a, b)),
        (EachKey(a), _) | (_, EachKey(a)) => EachKey(a),
        (AtLeast(a), AtLeast(b) | AtMost(b)) | (AtMost(a), AtLeast(b)) => AtLeast(plus(a, b)),
        (AtMost(a), AtMost(b)) => AtMost(plus(a, b)),
        (other, _) => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn flow(rate: f64) -> Flow<'static> {
        Flow { rate: Ok(rate), window: 5 * MINUTE }
    }

    #[test]
    fn an_estimate_is_rate_times_time_times_bytes() {
        let keeps = |span| [Keeps { span, bytes: 10 }];
        let amount = |seconds: f64| Amount { entries: seconds * 100.0, bytes: seconds * 1_000.0 };
        let cases = [
            (KeptFor::Time(2 * MINUTE), Estimate::AtMost(amount(180.0))),
            (KeptFor::Window(MINUTE), Estimate::AtMost(amount(420.0))),
            (KeptFor::AtLeast(MINUTE), Estimate::AtLeast(amount(120.0))),
            (KeptFor::EachKey(3), Estimate::EachKey(Amount { entries: 3.0, bytes: 30.0 })),
            (KeptFor::ForEver, Estimate::Grows(amount(86_400.0))),
        ];
        for (span, estimate) in cases {
            assert_eq!(add(&keeps(span), &[flow(100.0)], MINUTE), estimate, "{span:?}");
        }
        let unknown = Flow { rate: Err("s"), window: 0 };
        assert_eq!(add(&keeps(KeptFor::ForEver), &[unknown], 0), Estimate::Unknown("s".to_owned()));
        let sides = [Keeps { span: KeptFor::Time(0), bytes: 10 }, Keeps { span: KeptFor::Time(MINUTE), bytes: 10 }];
        assert_eq!(add(&sides, &[flow(100.0), flow(100.0)], MINUTE), Estimate::AtMost(amount(180.0)), "both sides of a join");
        assert_eq!(add(&[], &[flow(1.0)], 0), Estimate::Nothing);
    }
}
