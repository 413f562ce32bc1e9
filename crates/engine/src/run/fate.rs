//! What becomes of the state that is there when a project starts: for each operator which state is its own, and whether it
//! fits.
//!
//! **Owns** finding an operator's state again. **Does not own** the verdict on a change (`operator::fingerprint`), nor
//! loading (`recover`).
//!
//! I1: every chain of state has one heir at most.
//! I2: an operator that takes the place of another in its table is that operator, changed: no state is dropped without a word
//!     for being called otherwise.
//! I3: an operator over rows that come and go begins when they do: one that has not seen a row come would take another back for it.

use std::collections::{BTreeMap, BTreeSet};

use watershed_protocol::OperatorState;
use watershed_types::Error;

use crate::operator::{Change, Effect, Fingerprint, Step};
use crate::plan::{Input, Plan};

/// What becomes of the state of one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// There is none: it starts empty.
    New,
    /// It is taken over.
    Reused {
        /// The name it was kept under.
        from: String,
        /// What has changed nevertheless.
        changes: Vec<Change>,
    },
    /// It does not fit: the operator can start without it alone.
    Rebuild {
        /// The name it was kept under.
        from: String,
        /// What has changed.
        changes: Vec<Change>,
    },
}

impl Fate {
    /// The name its state was kept under.
    pub fn from(&self) -> Option<&str> {
        match self {
            Fate::New => None,
            Fate::Reused { from, .. } | Fate::Rebuild { from, .. } => Some(from),
        }
    }

    /// What has changed.
    pub fn changes(&self) -> &[Change] {
        match self {
            Fate::New => &[],
            Fate::Reused { changes, .. } | Fate::Rebuild { changes, .. } => changes,
        }
    }
}

/// What becomes of the state of every operator of a plan, by its name.
pub fn fates(plan: &Plan, chains: &BTreeMap<String, OperatorState>) -> BTreeMap<String, Fate> {
    let operators: Vec<(&str, &Fingerprint)> = plan.tables.iter().flat_map(|table| &table.steps).filter_map(|step| step.stateful()).collect();
    let mut fates = decide(&operators, chains);
    for index in 0..plan.tables.len() {
        refuse_beginnings(plan, index, &mut fates);
    }
    fates
}

/// I3.
fn refuse_beginnings(plan: &Plan, index: usize, fates: &mut BTreeMap<String, Fate>) {
    let begun = |fates: &BTreeMap<String, Fate>, id: &str| fates.get(id).is_some_and(|fate| fate.from().is_some());
    let table = &plan.tables[index];
    let changing = table.inputs.iter().filter_map(|input| match *input {
        Input::Table(input) if plan.tables[input].key.is_some() => maker(plan, input),
        _ => None,
    });
    let mut before: Vec<&str> = changing.collect();
    for step in &table.steps {
        let Some((id, fingerprint)) = step.stateful() else { continue };
        if let Some(maker) = before.iter().find(|maker| begun(fates, maker)).filter(|_| fates.get(id) == Some(&Fate::New)) {
            let words = format!("it is new, and reads rows of \"{maker}\" that may be taken back, which it has not seen come");
            let change = Change { part: "input".to_owned(), was: vec![], is: vec![(*maker).to_owned()], words, effect: Effect::Breaks, note: None };
            fates.insert(id.to_owned(), Fate::Rebuild { from: String::new(), changes: vec![change] });
        }
        before = if fingerprint.changes_results() { vec![id] } else { vec![] };
    }
}

/// The operator that makes the rows of a table come and go.
fn maker(plan: &Plan, table: usize) -> Option<&str> {
    let found = plan.tables[table].steps.iter().rev().find_map(Step::stateful);
    match (found, plan.tables[table].inputs.first()) {
        (Some((id, _)), _) => Some(id),
        (None, Some(Input::Table(input))) => maker(plan, *input),
        _ => None,
    }
}

fn decide(operators: &[(&str, &Fingerprint)], chains: &BTreeMap<String, OperatorState>) -> BTreeMap<String, Fate> {
    let mut free: BTreeSet<&str> = chains.keys().map(String::as_str).filter(|id| !id.starts_with("source:")).collect();
    let mut fates = BTreeMap::new();
    let mut heirs: Vec<(&str, &Fingerprint, &str)> = Vec::new();
    let mut without: Vec<(&str, &Fingerprint)> = Vec::new();
    for (id, fingerprint) in operators {
        if free.remove(id) {
            heirs.push((id, fingerprint, id));
        } else {
            without.push((id, fingerprint));
        }
    }
    // I2: first the operator of its kind that the table had, then the one in its place.
    for same in [same_kind as fn(&str, &str) -> bool, same_place] {
        let mut left = Vec::new();
        for (id, fingerprint) in without {
            match free.iter().copied().find(|other| same(id, other)) {
                Some(other) => {
                    free.remove(other);
                    heirs.push((id, fingerprint, other));
                }
                None => left.push((id, fingerprint)),
            }
        }
        without = left;
    }
    fates.extend(without.into_iter().map(|(id, _)| (id.to_owned(), Fate::New)));
    for (id, fingerprint, from) in heirs {
        let Some(chain) = chains.get(from) else { continue };
        let (from, changes) = (from.to_owned(), fingerprint.changes_since(&chain.fingerprint));
        let breaks = changes.iter().any(|change| change.effect == Effect::Breaks);
        fates.insert(id.to_owned(), if breaks { Fate::Rebuild { from, changes } } else { Fate::Reused { from, changes } });
    }
    fates
}

/// `table/number:kind` in parts.
fn split(id: &str) -> Option<(&str, &str, &str)> {
    let (table, rest) = id.rsplit_once('/')?;
    let (number, kind) = rest.split_once(':')?;
    Some((table, number, kind))
}

fn same_kind(one: &str, other: &str) -> bool {
    matches!((split(one), split(other)), (Some((table, _, kind)), Some((its, _, of))) if table == its && kind == of)
}

fn same_place(one: &str, other: &str) -> bool {
    matches!((split(one), split(other)), (Some((table, number, _)), Some((its, at, _))) if table == its && number == at)
}

/// Why an operator cannot start with its state.
pub fn unfit(id: &str, fingerprint: &Fingerprint, changes: &[Change]) -> Error {
    let breaking: Vec<&Change> = changes.iter().filter(|change| change.effect == Effect::Breaks).collect();
    let words: Vec<&str> = breaking.iter().map(|change| change.words.as_str()).collect();
    let notes: Vec<String> = breaking.iter().filter_map(|change| change.note.as_ref()).map(|note| format!(" ({note})")).collect();
    if breaking.iter().all(|change| change.part == "input") {
        return Error::invalid("RUN0019", format!("operator \"{id}\" cannot begin in the middle: {}", words.join("; ")))
            .hint("Give the table it reads a new name as well, so that both begin together; or run once with --rebuild: it then counts what comes from now on, and may be wrong.");
    }
    Error::invalid("RUN0019", format!("operator \"{id}\" has changed, and its state does not fit it any more: {}{}", words.join("; "), notes.concat()))
        .hint(format!("Undo the change, or run once with --rebuild: the operator then starts without {}.", fingerprint.loss()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chains(of: &[(&str, &Fingerprint)]) -> BTreeMap<String, OperatorState> {
        of.iter().map(|(id, fingerprint)| ((*id).to_owned(), OperatorState { fingerprint: fingerprint.text(), ..OperatorState::default() })).collect()
    }

    #[test]
    fn state_finds_its_operator_again() {
        let (dedup, window, changes) = (Fingerprint::new("dedup", String::new()), Fingerprint::new("window", String::new()), Fingerprint::new("changes", String::new()));
        let was = chains(&[("t/1:dedup", &dedup), ("t/2:window", &window), ("source:s", &window)]);
        let reused = |from: &str| Fate::Reused { from: from.to_owned(), changes: vec![] };

        let same = decide(&[("t/1:dedup", &dedup), ("t/2:window", &window)], &was);
        assert_eq!((&same["t/1:dedup"], &same["t/2:window"]), (&reused("t/1:dedup"), &reused("t/2:window")));

        let moved = decide(&[("t/1:window", &window)], &was);
        assert_eq!(moved["t/1:window"], reused("t/2:window"), "the deduplication in front of it is gone");

        let replaced = decide(&[("t/1:dedup", &dedup), ("t/2:changes", &changes)], &was);
        assert!(matches!(&replaced["t/2:changes"], Fate::Rebuild { from, .. } if from == "t/2:window"), "{replaced:?}");

        let other = decide(&[("u/1:dedup", &dedup)], &was);
        assert_eq!(other["u/1:dedup"], Fate::New, "a table's state is its own");
    }
}
