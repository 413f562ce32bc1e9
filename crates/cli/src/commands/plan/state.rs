//! The state of each operator: what becomes of it, why, and how large it is and will be.
//!
//! **Owns** the sentences. **Does not own** the verdicts (`watershed_engine::run::fates`), nor the sums of an estimate
//! (`watershed_engine::plan::estimate`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use watershed_engine::checkpoint::Checkpoint;
use watershed_engine::operator::{Effect, Fingerprint};
use watershed_engine::plan::Plan;
use watershed_engine::plan::estimate::{Amount, Estimate, bytes, estimates};
use watershed_engine::run::{Fate, fates};
use watershed_protocol::{Manifest, OperatorState};
use watershed_types::{Epoch, Error, Result, near_miss};

use crate::arguments::Rate;
use crate::output::{count, thousands};
use crate::system;

/// How many epochs back a rate and a growth are measured from.
const BACK: u64 = 32;

/// What a project's state is and becomes.
#[derive(Default)]
pub struct State {
    manifest: Option<Manifest>,
    /// An earlier epoch, to measure from.
    earlier: Option<Manifest>,
    fates: BTreeMap<String, Fate>,
    estimates: BTreeMap<String, Estimate>,
    /// Events a second of event time by source, and whether they were given or measured.
    rates: BTreeMap<String, (f64, bool)>,
    memory: u64,
    /// Tables that the lake has; none before the first epoch.
    tables: BTreeSet<String>,
    /// Of these, what a start would do with them.
    stored: BTreeMap<String, Stored>,
}

/// What a start would do with a table that is there.
pub enum Stored {
    /// It is written on, with these columns besides.
    Fits { new: Vec<String> },
    /// It is refused.
    Unfit { why: String, hint: String },
    /// It is in another zone, and stays there: the table begins anew.
    Elsewhere { folder: String },
}

impl Stored {
    /// In words; nothing if nothing changes.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Fits { new } if new.is_empty() => vec![],
            Self::Fits { new } => vec![format!("it gets new {} {}: NULL in the rows that are there", if new.len() == 1 { "column" } else { "columns" }, new.join(", "))],
            Self::Unfit { why, hint } => vec![format!("refused: {why}"), format!("  {hint}")],
            Self::Elsewhere { folder } => vec![format!("it begins anew: the table of this name in {folder}/ stays there, and is not read any more")],
        }
    }

    /// The same for a machine.
    pub fn json(&self) -> Value {
        match self {
            Self::Fits { new } => json!({ "fits": true, "new_columns": new }),
            Self::Unfit { why, hint } => json!({ "fits": false, "why": why, "hint": hint }),
            Self::Elsewhere { folder } => json!({ "fits": true, "begins_anew": true, "left_in": folder }),
        }
    }
}

/// What becomes of one operator's state, in a word.
fn word(fate: &Fate, begun: &[&str]) -> &'static str {
    match fate {
        Fate::New if begun.is_empty() => "new",
        Fate::New => "backfill",
        Fate::Reused { .. } => "reused",
        Fate::Rebuild { .. } => "rebuild",
    }
}

impl State {
    /// Looks at the checkpoint, if there is one. `rates` are those that were given.
    pub fn of(plan: &Plan, checkpoint: Option<&Checkpoint>, tables: BTreeSet<String>, stored: BTreeMap<String, Stored>, rates: &[Rate], memory: u64) -> Result<State> {
        let manifest = checkpoint.map(system::newest_manifest).transpose()?.flatten();
        let earlier = match (checkpoint, &manifest) {
            (Some(checkpoint), Some(newest)) => earlier(checkpoint, newest.epoch)?,
            _ => None,
        };
        let mut known: BTreeMap<String, (f64, bool)> = BTreeMap::new();
        if let (Some(newest), Some(earlier), Some(checkpoint)) = (&manifest, &earlier, checkpoint) {
            known.extend(measured(checkpoint, earlier, newest)?.into_iter().map(|(source, rate)| (source, (rate, false))));
        }
        for rate in rates {
            let named: Vec<&str> = plan.sources.iter().map(|s| s.name.as_str()).filter(|name| rate.source.as_deref().is_none_or(|source| source == *name)).collect();
            if named.is_empty() {
                return Err(no_such_source(plan, rate.source.as_deref().unwrap_or_default()));
            }
            // One for a source says more than one for all, wherever it stands.
            let others_given = |name: &str| rate.source.is_none() && rates.iter().any(|other| other.source.as_deref() == Some(name));
            known.extend(named.into_iter().filter(|name| !others_given(name)).map(|name| (name.to_owned(), (rate.events, true))));
        }
        let empty = BTreeMap::new();
        let chains = manifest.as_ref().map_or(&empty, |m| &m.state);
        let plain = known.iter().map(|(source, (rate, _))| (source.clone(), *rate)).collect();
        Ok(State { fates: fates(plan, chains), estimates: estimates(plan, &plain), manifest, earlier, rates: known, memory, tables, stored })
    }

    /// What a start would do with a table that is there.
    pub fn stored(&self, table: &str) -> Option<&Stored> {
        self.stored.get(table)
    }

    fn chains(&self) -> impl Iterator<Item = (&String, &OperatorState)> {
        self.manifest.iter().flat_map(|m| &m.state)
    }

    fn epoch(&self) -> u64 {
        self.manifest.as_ref().map_or(0, |m| m.epoch.0)
    }

    /// State that nobody takes over.
    pub fn gone(&self, plan: &Plan) -> Vec<&str> {
        let taken: BTreeSet<&str> = self.fates.values().filter_map(Fate::from).collect();
        let gone = |id: &&str| match id.strip_prefix("source:") {
            Some("system.replay") => false,
            Some(source) => !plan.sources.iter().any(|s| s.name == source),
            None => !taken.contains(id),
        };
        self.chains().map(|(id, _)| id.as_str()).filter(gone).collect()
    }

    /// The sources of a table that have been read already.
    fn begun<'a>(&self, plan: &'a Plan, table: usize) -> Vec<&'a str> {
        let names = plan.root_sources(table).into_iter().map(|source| plan.sources[source].name.as_str());
        names.filter(|name| self.manifest.as_ref().is_some_and(|m| m.sources.contains_key(*name))).collect()
    }

    /// What a table that is not there yet will not have.
    pub fn past(&self, plan: &Plan, table: usize) -> Vec<String> {
        let is = &plan.tables[table];
        // Parts of a query, and tables whose operators say it.
        if !is.stored || self.tables.contains(&is.name) || is.steps.iter().any(|step| step.stateful().is_some()) {
            return vec![];
        }
        self.begun(plan, table).into_iter().map(|source| self.backfill(plan, source)).collect()
    }

    /// What becomes of an operator's state, why, and how large it is.
    pub fn lines(&self, plan: &Plan, table: usize, id: &str, fingerprint: &Fingerprint) -> Vec<String> {
        let fate = self.fates.get(id).unwrap_or(&Fate::New);
        let begun = self.begun(plan, table);
        let mut lines = vec![match word(fate, &begun) {
            "rebuild" => format!("state \"{id}\": must be rebuilt"),
            "backfill" => format!("state \"{id}\": new, and its past is not in it"),
            word => format!("state \"{id}\": {word}"),
        }];
        lines.extend(self.why(plan, id, fate, &begun, fingerprint).into_iter().map(|line| format!("  {line}")));
        lines.extend(self.measured_words(fate).map(|words| format!("  {words}")));
        if let Some(estimate) = self.estimates.get(id).filter(|estimate| self.worth_telling(estimate)) {
            lines.push(format!("  estimate: {}", estimate.words()));
        }
        lines
    }

    /// Without any rate nothing is said of those that need one.
    fn worth_telling(&self, estimate: &Estimate) -> bool {
        !matches!(estimate, Estimate::Nothing) && (!self.rates.is_empty() || !matches!(estimate, Estimate::Unknown(_)))
    }

    fn why(&self, plan: &Plan, id: &str, fate: &Fate, begun: &[&str], fingerprint: &Fingerprint) -> Vec<String> {
        let mut why: Vec<String> = Vec::new();
        if let Fate::Reused { from, .. } = fate
            && from != id
        {
            why.push(format!("it was called \"{from}\""));
        }
        // Where the state goes, what it would have mixed is nothing.
        let rebuilt = matches!(fate, Fate::Rebuild { .. });
        for change in fate.changes().iter().filter(|change| !rebuilt || change.effect == Effect::Breaks) {
            let told = change.note.iter().map(|note| format!(": {note}"));
            let past = (change.effect == Effect::Mixes).then(|| format!("; rows up to epoch {} came by the old one", self.epoch()));
            why.push(format!("{}{}{}", change.words, past.unwrap_or_default(), told.collect::<String>()));
        }
        match fate {
            Fate::Rebuild { .. } => why.push(format!("a start with --rebuild loses {}", fingerprint.loss())),
            Fate::New => why.extend(begun.iter().map(|source| self.backfill(plan, source))),
            Fate::Reused { .. } => {}
        }
        why
    }

    /// What a new operator over an old source does not see, and how it can.
    fn backfill(&self, plan: &Plan, source: &str) -> String {
        let connector = plan.sources.iter().find(|s| s.name == source).map_or("", |s| s.connector.as_str());
        let fill = match connector {
            "files" => "the files are read again, as far as they are still there, by a source of another name with the same path: a table over that one has it all",
            "kafka" => "what the topic still holds is read again by a source of another name with the same topic and start = 'earliest': a table over that one has it all",
            "generator" | "nexmark" => "a source of another name with the same options makes the same rows again",
            _ => "what came before cannot be read by another source",
        };
        format!("it starts with what source \"{source}\" yields after epoch {}; {fill}", self.epoch())
    }

    fn measured(&self, fate: &Fate) -> Option<(u64, u64, Option<f64>)> {
        let from = fate.from()?;
        let (rows, bytes) = held(self.manifest.as_ref()?, from)?;
        let growth = self.earlier.as_ref().and_then(|earlier| {
            let epochs = self.epoch().checked_sub(earlier.epoch.0).filter(|epochs| *epochs > 0)?;
            Some((rows as f64 - held(earlier, from)?.0 as f64) / epochs as f64)
        });
        Some((rows, bytes, growth))
    }

    fn measured_words(&self, fate: &Fate) -> Option<String> {
        let (rows, size, growth) = self.measured(fate).filter(|(rows, ..)| *rows > 0)?;
        let growth = growth.map(|growth| match growth {
            growth if growth >= 0.5 => format!(", {} more with each epoch of late", thousands(growth.round() as u64)),
            growth if growth <= -0.5 => format!(", {} fewer with each epoch of late", thousands(-growth.round() as u64)),
            _ => ", no more with each epoch of late".to_owned(),
        });
        Some(format!("held at epoch {}: at most {} in {} of files{}", self.epoch(), count(rows, "row"), bytes(size as f64), growth.unwrap_or_default()))
    }

    /// For a machine.
    pub fn json(&self, plan: &Plan, table: usize, id: &str, fingerprint: &Fingerprint) -> Value {
        let fate = self.fates.get(id).unwrap_or(&Fate::New);
        let begun = self.begun(plan, table);
        let effect = |effect| match effect {
            Effect::Fits => "fits",
            Effect::Mixes => "mixes",
            Effect::Breaks => "breaks",
        };
        let changes: Vec<Value> =
            fate.changes().iter().map(|c| json!({ "part": c.part, "was": c.was, "is": c.is, "words": c.words, "effect": effect(c.effect), "note": c.note })).collect();
        let measured = self.measured(fate).map(|(rows, bytes, growth)| json!({ "epoch": self.epoch(), "rows_at_most": rows, "file_bytes": bytes, "rows_per_epoch": growth }));
        json!({
            "fate": word(fate, &begun), "from": fate.from(), "why": self.why(plan, id, fate, &begun, fingerprint), "changes": changes,
            "measured": measured, "estimate": self.estimates.get(id).map(estimate_json),
        })
    }

    /// What concerns the whole project: refusals, and whether the memory will do.
    pub fn verdicts(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.fates.values().any(|fate| matches!(fate, Fate::Rebuild { .. })) {
            lines.push("an operator has changed: the pipeline refuses to start, unless it is started once with --rebuild".to_owned());
        }
        if self.stored.values().any(|stored| matches!(stored, Stored::Unfit { .. })) {
            lines.push("a table that is there does not fit its query any more: the pipeline refuses to start".to_owned());
        }
        if self.rates.is_empty() {
            return lines;
        }
        let rates: Vec<String> = self.rates.iter().map(|(source, (rate, given))| format!("{source} {rate:.0}{}", if *given { "" } else { " (measured)" })).collect();
        lines.push(format!("estimates are for events a second: {}", rates.join(", ")));
        let (total, memory) = (self.total(), self.memory as f64);
        lines.push(match total {
            total if total > memory => {
                format!("warning: state may need {}, and [engine] memory is {}: a run stops when it is full. Shorten the intervals, or give it more.", bytes(total), bytes(memory))
            }
            total => format!("state that is bounded needs {} at most; [engine] memory is {}", bytes(total), bytes(memory)),
        });
        for (id, estimate) in &self.estimates {
            if let Estimate::Grows(Amount { bytes: a_day, .. }) = estimate
                && *a_day > 0.0
            {
                lines.push(format!("warning: \"{id}\" keeps everything: if each event is new to it, the memory is full after {:.1} days", (memory - total).max(0.0) / a_day));
            }
        }
        lines
    }

    fn total(&self) -> f64 {
        // The sum of nothing is -0.
        self.estimates.values().filter_map(Estimate::bound).sum::<f64>() + 0.0
    }

    /// The same for a machine.
    pub fn summary(&self) -> Value {
        let rates: BTreeMap<_, _> = self.rates.iter().map(|(source, (rate, given))| (source, json!({ "events_per_second": rate, "measured": !given }))).collect();
        let known = !self.rates.is_empty();
        json!({ "rates": rates, "bounded_bytes": known.then(|| self.total()), "memory": self.memory, "fits": known.then(|| self.total() <= self.memory as f64) })
    }
}

fn estimate_json(estimate: &Estimate) -> Value {
    let of = |bound: &str, amount: &Amount| json!({ "bound": bound, "entries": amount.entries.round(), "bytes": amount.bytes.round() });
    match estimate {
        Estimate::AtMost(amount) => of("at_most", amount),
        Estimate::AtLeast(amount) => of("at_least", amount),
        Estimate::Grows(amount) => of("grows_per_day_at_most", amount),
        Estimate::EachKey(amount) => of("for_each_key", amount),
        Estimate::Unknown(source) => json!({ "bound": "unknown", "rate_missing": source }),
        Estimate::Nothing => json!({ "bound": "nothing", "entries": 0, "bytes": 0 }),
    }
}

fn no_such_source(plan: &Plan, name: &str) -> Error {
    let names: Vec<&str> = plan.sources.iter().map(|s| s.name.as_str()).collect();
    let hint = match near_miss(name, names.iter().copied()) {
        Some(near) => format!("Did you mean \"{near}\"?"),
        None => format!("Its sources are: {}.", names.join(", ")),
    };
    Error::invalid("CLI0130", format!("--rate names \"{name}\", which is no source of the project")).hint(hint)
}

/// Rows and bytes in the files of a chain: rows that were given up since may still be among them.
fn held(manifest: &Manifest, id: &str) -> Option<(u64, u64)> {
    let files = &manifest.state.get(id)?.files;
    Some((files.iter().map(|file| file.rows).sum(), files.iter().map(|file| file.bytes).sum()))
}

/// The oldest of the last epochs whose manifest is still there.
fn earlier(checkpoint: &Checkpoint, newest: Epoch) -> Result<Option<Manifest>> {
    let prepared = checkpoint.history()?.prepared;
    let first = prepared.into_iter().find(|epoch| *epoch + BACK >= newest.0 && *epoch < newest.0);
    first.map(|epoch| checkpoint.manifest(Epoch(epoch))).transpose()
}

/// How many events a second of event time each source had between two epochs.
fn measured(checkpoint: &Checkpoint, earlier: &Manifest, newest: &Manifest) -> Result<BTreeMap<String, f64>> {
    let mut read: BTreeMap<(String, String), u64> = BTreeMap::new();
    for epoch in earlier.epoch.0 + 1..=newest.epoch.0 {
        for row in checkpoint.manifest(Epoch(epoch))?.ledger {
            *read.entry((row.source, row.table_name)).or_default() += row.account.read;
        }
    }
    let mut rates: BTreeMap<String, f64> = BTreeMap::new();
    for ((source, _), rows) in read {
        let watermark = |manifest: &Manifest| manifest.sources.get(&source).and_then(|progress| progress.combined);
        let (Some(from), Some(to)) = (watermark(earlier), watermark(newest)) else { continue };
        let seconds = to.saturating_sub(from) as f64 / 1e6;
        if seconds >= 1.0 {
            let rate = rates.entry(source).or_default();
            *rate = rate.max(rows as f64 / seconds);
        }
    }
    Ok(rates)
}
