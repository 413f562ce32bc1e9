//! One table at work: its steps, its rules, its accounts.
//!
//! **Owns** a table's stateful operators and the fate of each row it reads. **Does not own** where rows go afterwards.
//!
//! I1: for every tick, `read = delivered + filtered + duplicate + late + quarantined`, per input.
//! I2: if one of the rows a source row was multiplied into breaks a rule, all of them are held back, so that the source
//!     row has one fate and can be replayed as a whole. The strongest action that any of them calls for is the one.
//! I3: copies of a source row stand side by side, in one batch, wherever a batch is cut.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use rayon::prelude::*;
use watershed_protocol::Account;
use watershed_sql::OnViolation;
use watershed_types::{Error, Reason, Result};

use super::stages::{Stage, timed};
use crate::operator::{Dedup, EnrichSpec, FanOut, Operator, Refusal, Step, StreamBatch, Tally, Until, Waits, WindowAggregate, rule_by_rule, run_check, run_rule, run_stateless};
use crate::plan::{Rule, TablePlan};

/// A stretch of a table's plan.
pub enum Segment {
    /// Stateless steps, run in parallel over batches.
    Stateless(Vec<Step>),
    /// A table outside, asked for what it holds of a tick's keys.
    Enrich(EnrichSpec),
    /// A stateful operator.
    Operator(Box<dyn Operator>),
}

/// A running table.
pub struct TableRun {
    /// Its name.
    pub name: String,
    /// Its plan as stretches.
    pub segments: Vec<Segment>,
    check: Vec<Step>,
    /// The same, one expression a rule: for batches on which `check` fails.
    one_by_one: Vec<Arc<dyn PhysicalExpr>>,
    rules: Vec<Rule>,
    /// How often each rule was broken since the start.
    pub violations: Vec<u64>,
    /// True if late rows are counted and not kept.
    drops_late: bool,
    /// True if its results have an account of their own in any case: no writer's receipt stands for them.
    told: bool,
}

/// What a tick made of a table's inputs.
#[derive(Default)]
pub struct Outcome {
    /// Rows for the table.
    pub delivered: Vec<StreamBatch>,
    /// What became of each input.
    pub inputs: Vec<Fates>,
    /// Results that rules kept back, or that came too late for a further operator.
    pub refused: Vec<Refusal>,
    /// The account of the results, if any of them was kept back.
    pub results: Option<Account>,
}

/// What became of the rows of one input.
#[derive(Default)]
pub struct Fates {
    /// Rows for the quarantine.
    pub refused: Vec<Refusal>,
    /// The account.
    pub account: Account,
}

fn failed(table: &str, error: DataFusionError) -> Error {
    Error::internal("RUN0004", format!("table \"{table}\" failed: {}", error.strip_backtrace()))
}

/// Why an operator has ended a run.
fn stopped(table: &str, operator: &dyn Operator, error: DataFusionError) -> Error {
    operator.fan_out().and_then(|fan_out| fan_out.error(table)).unwrap_or_else(|| failed(table, error))
}

fn of_lookups(steps: &[Step]) -> impl Iterator<Item = &FanOut> {
    steps.iter().filter_map(|step| if let Step::Lookup(lookup) = step { lookup.fan_out() } else { None })
}

impl TableRun {
    /// Takes the steps out of the plan and builds the operators.
    pub fn new(plan: &mut TablePlan, input: SchemaRef, key_groups: u32, parallelism: usize) -> Result<Self> {
        let mut segments: Vec<Segment> = Vec::new();
        let mut schema = input;
        for step in std::mem::take(&mut plan.steps) {
            match step {
                Step::Dedup(spec) => segments.push(Segment::Operator(Box::new(Dedup::new(spec, key_groups, parallelism)))),
                Step::Aggregate(spec) => {
                    let output = spec.schema.clone();
                    let operator = WindowAggregate::new(spec, &schema, parallelism).map_err(|e| failed(&plan.name, e))?;
                    segments.push(Segment::Operator(Box::new(operator)));
                    schema = output;
                }
                Step::Operator(spec) => {
                    schema = spec.schema();
                    segments.push(Segment::Operator(spec.build(parallelism).map_err(|e| failed(&plan.name, e))?));
                }
                Step::Enrich(spec) => {
                    schema = Arc::clone(&spec.schema);
                    segments.push(Segment::Enrich(spec));
                }
                other => {
                    match &other {
                        Step::Project { schema: output, .. } => schema = output.clone(),
                        Step::Assign(spec) => schema = spec.schema.clone(),
                        Step::Expand(spec) => schema = spec.schema.clone(),
                        Step::Lookup(lookup) => schema = lookup.schema(),
                        Step::Settle(spec) => schema = spec.schema(),
                        _ => {}
                    }
                    match segments.last_mut() {
                        Some(Segment::Stateless(steps)) => steps.push(other),
                        _ => segments.push(Segment::Stateless(vec![other])),
                    }
                }
            }
        }
        let rules = std::mem::take(&mut plan.rules);
        let check = std::mem::take(&mut plan.check);
        let one_by_one = rule_by_rule(&check).map_err(|e| failed(&plan.name, e))?;
        Ok(Self {
            name: plan.name.clone(),
            segments,
            check,
            one_by_one,
            violations: vec![0; rules.len()],
            rules,
            told: !plan.stored || plan.key.is_some(),
            drops_late: plan.drops_late,
        })
    }

    /// The stateful operators.
    pub fn operators(&self) -> impl Iterator<Item = &dyn Operator> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Operator(operator) => Some(operator.as_ref()),
            Segment::Stateless(_) | Segment::Enrich(_) => None,
        })
    }

    /// The joins that make several rows of one.
    pub fn fan_outs(&self) -> impl Iterator<Item = &FanOut> {
        self.segments.iter().flat_map(|segment| match segment {
            Segment::Operator(operator) => operator.fan_out().into_iter().collect::<Vec<_>>(),
            Segment::Stateless(steps) => of_lookups(steps).collect(),
            Segment::Enrich(_) => vec![],
        })
    }

    /// The rules and how often each was broken.
    pub fn broken(&self) -> impl Iterator<Item = (&Rule, u64)> {
        self.rules.iter().zip(self.violations.iter().copied())
    }

    /// Runs one tick's inputs and, as far as event time has come, finishes what is open; with `closing` all of it. What else
    /// is remembered is forgotten by the watermark alone. `waits` for tables outside.
    pub fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, until: Until, waits: &dyn Waits) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        for input in &inputs {
            let read = input.iter().map(StreamBatch::distinct_rows).sum();
            outcome.inputs.push(Fates { account: Account { read, ..Account::default() }, ..Fates::default() });
        }
        let mut tallies: Vec<Tally> = inputs.iter().map(|_| Tally::default()).collect();
        let mut absorbed = false;
        // Several inputs up to the operator that takes them, then one.
        let mut streams = inputs;
        for segment in &mut self.segments {
            match segment {
                Segment::Stateless(steps) => {
                    let steps = &*steps;
                    let ran: Vec<_> = streams
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                        .into_par_iter()
                        .map(|batch| {
                            let mut refused = Vec::new();
                            (timed(Stage::Query, || run_stateless(steps, batch, &mut refused)), refused)
                        })
                        .collect();
                    if let Some(error) = of_lookups(steps).find_map(|fan_out| fan_out.error(&self.name)) {
                        return Err(error);
                    }
                    let mut batches = Vec::with_capacity(ran.len());
                    for (done, refused) in ran {
                        batches.extend(done);
                        for (row, text) in refused {
                            let refusal = Refusal::of(&row, 0, Reason::Violation, format!("the query failed on this row: {text}"));
                            match absorbed {
                                false => outcome.inputs[0].refused.push(refusal),
                                true => outcome.refused.push(refusal),
                            }
                        }
                    }
                    streams = vec![batches];
                }
                Segment::Enrich(spec) => streams = vec![spec.run(streams.into_iter().flatten().collect(), until.now, waits)?],
                Segment::Operator(operator) if absorbed => {
                    let mut later = vec![Tally::default()];
                    streams = vec![operator.run(streams, until, &mut later).map_err(|e| stopped(&self.name, operator.as_ref(), e))?];
                    outcome.refused.extend(later.into_iter().flat_map(|tally| tally.late));
                }
                Segment::Operator(operator) => {
                    streams = vec![operator.run(streams, until, &mut tallies).map_err(|e| stopped(&self.name, operator.as_ref(), e))?];
                    absorbed = operator.absorbs();
                }
            }
        }
        let batches: Vec<StreamBatch> = streams.into_iter().flatten().collect();
        let failed_results = outcome.refused.len() as u64;
        let arrived: u64 = batches.iter().map(StreamBatch::distinct_rows).sum::<u64>() + failed_results;
        let (kept, dropped, held) = self.judge(batches)?;
        outcome.delivered = kept;
        let delivered: u64 = outcome.delivered.iter().map(StreamBatch::distinct_rows).sum();
        if absorbed {
            let held_back = held.len() as u64 + failed_results;
            outcome.refused.extend(held);
            if dropped + held_back > 0 || (self.told && arrived > 0) {
                outcome.results = Some(Account { read: arrived, delivered: arrived - dropped - held_back, filtered: dropped, quarantined: held_back, ..Account::default() });
            }
        } else {
            outcome.inputs[0].refused.extend(held);
        }
        for (fates, tally) in outcome.inputs.iter_mut().zip(tallies) {
            let account = &mut fates.account;
            account.quarantined = fates.refused.len() as u64;
            account.duplicate = tally.duplicate;
            account.late = tally.late.len() as u64;
            account.delivered = if absorbed { tally.absorbed } else { delivered };
            if !self.drops_late {
                fates.refused.extend(tally.late);
            }
            let known = account.delivered + account.duplicate + account.late + account.quarantined;
            account.filtered =
                account.read.checked_sub(known).ok_or_else(|| Error::internal("RUN0005", format!("table \"{}\": {known} fates for {} rows", self.name, account.read)))?;
            debug_assert!(account.balances(), "I1");
        }
        Ok(outcome)
    }

    /// For a replayed row on its way to a table further on: this table's stateless steps, and what tables outside say now;
    /// nothing else.
    pub fn pass_through(&self, mut batches: Vec<StreamBatch>, now: i64, waits: &dyn Waits) -> Result<Vec<StreamBatch>> {
        for segment in &self.segments {
            match segment {
                Segment::Stateless(steps) => {
                    let mut failed = Vec::new();
                    batches = batches.into_iter().flat_map(|b| run_stateless(steps, b, &mut failed)).collect();
                }
                Segment::Enrich(spec) => batches = spec.run(batches, now, waits)?,
                Segment::Operator(_) => {}
            }
        }
        Ok(batches)
    }

    /// Applies the rules: rows that stay, how many were dropped, rows held back.
    fn judge(&mut self, batches: Vec<StreamBatch>) -> Result<(Vec<StreamBatch>, u64, Vec<Refusal>)> {
        if self.rules.is_empty() {
            return Ok((batches, 0, vec![]));
        }
        let (check, one_by_one, rules) = (&self.check, &self.one_by_one, &self.rules);
        let judged: Vec<Judged> = batches
            .into_par_iter()
            .map(|batch| timed(Stage::Rules, || judge_batch(check, one_by_one, rules, batch)))
            .collect::<Result<_, _>>()
            .map_err(|e| failed(&self.name, e))?;
        let (mut kept, mut dropped, mut held) = (Vec::new(), 0, Vec::new());
        for judged in judged {
            for (count, broken) in self.violations.iter_mut().zip(&judged.broken) {
                *count += broken;
            }
            if let Some(refusal) = judged.fatal {
                let place = refusal.origin.as_ref().map_or_else(String::new, |o| format!(" at position {} of partition {}", o.position(refusal.record), o.chunk.partition));
                return Err(Error::rejected("RUN0006", format!("table \"{}\": a row{place} broke {}, which is ON VIOLATION FAIL", self.name, refusal.detail))
                    .hint("Nothing of this epoch was committed. Correct the data at its source, or change the rule to QUARANTINE, and start again."));
            }
            kept.push(judged.kept);
            dropped += judged.dropped;
            held.extend(judged.held);
        }
        Ok((kept, dropped, held))
    }
}

struct Judged {
    kept: StreamBatch,
    dropped: u64,
    held: Vec<Refusal>,
    broken: Vec<u64>,
    fatal: Option<Refusal>,
}

/// What the rules say of each row.
struct Checked {
    /// By rule: where it holds.
    masks: Vec<BooleanArray>,
    /// By rule and row: why it could not be evaluated there.
    failures: Vec<HashMap<usize, String>>,
}

/// Evaluates the rules, all at once. Where that fails, one by one: a rule that cannot be evaluated on a row is broken by
/// that row, and says nothing about the others.
fn check_rules(check: &[Step], one_by_one: &[Arc<dyn PhysicalExpr>], batch: &StreamBatch) -> datafusion::common::Result<Checked> {
    if let Ok(masks) = run_check(check, &batch.batch) {
        return Ok(Checked { masks, failures: vec![] });
    }
    let (mut masks, mut failures) = (Vec::with_capacity(one_by_one.len()), Vec::with_capacity(one_by_one.len()));
    for rule in one_by_one {
        let mut failed = HashMap::new();
        masks.push(run_rule(rule, &batch.batch, 0, &mut failed)?);
        failures.push(failed);
    }
    Ok(Checked { masks, failures })
}

fn judge_batch(check: &[Step], one_by_one: &[Arc<dyn PhysicalExpr>], rules: &[Rule], batch: StreamBatch) -> datafusion::common::Result<Judged> {
    let rows = batch.batch.num_rows();
    let mut broken = vec![0; rules.len()];
    let checked = check_rules(check, one_by_one, &batch)?;
    // The strongest rule that each row breaks, of equals the first.
    let mut verdicts: Vec<Option<usize>> = vec![];
    for (index, (mask, rule)) in checked.masks.iter().zip(rules).enumerate() {
        broken[index] = (rows - mask.true_count()) as u64;
        if broken[index] == 0 || rule.on_violation == OnViolation::Warn {
            continue;
        }
        verdicts.resize(rows, None);
        for (_, verdict) in verdicts.iter_mut().enumerate().filter(|(row, _)| !mask.value(*row)) {
            if verdict.is_none_or(|earlier| strength(rules[earlier].on_violation) < strength(rule.on_violation)) {
                *verdict = Some(index);
            }
        }
    }
    if verdicts.is_empty() {
        return Ok(Judged { kept: batch, dropped: 0, held: vec![], broken, fatal: None });
    }
    let (mut held, mut dropped, mut fatal) = (Vec::new(), 0, None);
    let mut keep = vec![true; rows];
    for copies in copies(&batch) {
        let Some((row, index)) = strongest(rules, &verdicts, copies.clone()) else { continue };
        // I2: what one copy broke holds for all.
        keep[copies].fill(false);
        let refusal = || Refusal::of(&batch, row, Reason::Violation, detail(&rules[index], checked.failures.get(index).and_then(|failed| failed.get(&row))));
        match rules[index].on_violation {
            OnViolation::Fail => fatal = fatal.or_else(|| Some(refusal())),
            OnViolation::Quarantine => held.push(refusal()),
            OnViolation::Drop | OnViolation::Warn => dropped += 1,
        }
    }
    Ok(Judged { kept: batch.filter(&BooleanArray::from(keep))?, dropped, held, broken, fatal })
}

/// The stretches of a batch that come from one source row each.
fn copies(batch: &StreamBatch) -> impl Iterator<Item = Range<usize>> {
    let rows = batch.batch.num_rows();
    let mut next = 0;
    std::iter::from_fn(move || {
        let start = next;
        if start == rows {
            return None;
        }
        next = (start + 1..rows).find(|row| batch.row(*row) != batch.row(start)).unwrap_or(rows);
        Some(start..next)
    })
}

/// The row and the rule whose action is the strongest among these rows, of equals the first.
fn strongest(rules: &[Rule], verdicts: &[Option<usize>], rows: Range<usize>) -> Option<(usize, usize)> {
    let mut strongest: Option<(usize, usize)> = None;
    for row in rows {
        let Some(index) = verdicts[row] else { continue };
        if strongest.is_none_or(|(_, earlier)| strength(rules[earlier].on_violation) < strength(rules[index].on_violation)) {
            strongest = Some((row, index));
        }
    }
    strongest
}

/// How a broken rule is explained.
fn detail(rule: &Rule, failure: Option<&String>) -> String {
    match failure {
        None => format!("rule {}: {}", rule.name, rule.text),
        Some(why) => format!("rule {}: {}, which failed on this row: {why}", rule.name, rule.text),
    }
}

fn strength(action: OnViolation) -> u8 {
    match action {
        OnViolation::Warn => 0,
        OnViolation::Drop => 1,
        OnViolation::Quarantine => 2,
        OnViolation::Fail => 3,
    }
}
