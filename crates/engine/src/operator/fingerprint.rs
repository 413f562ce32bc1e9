//! What the state of an operator depends on, in parts that have names, and what a change of one means for the state.
//!
//! **Owns** the durable text of a fingerprint, and the verdict on a change. **Does not own** how state is made to fit
//! (`convert`), nor where the parts come from (`plan::trace`).
//!
//! I1: two definitions whose parts are equal read and write the same state.
//! I2: a change of a part is kept only where the state, made to fit, leads to what the new definition says of every row from
//!     here on; what it leads to for rows before is told in words.
//! I3: a fingerprint of an earlier version is compared as a whole, as that version did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The part that says which rows an operator is shown of those that come and go; with ` in` and a table, which of its own
/// results are shown there. A row that the old condition let through is taken back by the old condition alone.
pub const SHOWN: &str = "condition on rows that change";

/// With a table, the part that says which columns name its rows, where they come and go.
pub const NAMED: &str = "key of";

/// One value of a part: a column, a function, a length of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is, in the words of SQL.
    pub is: String,
    /// The types of what is kept for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
}

impl Item {
    /// A value without columns of its own in the state.
    pub fn plain(is: impl ToString) -> Self {
        Self { is: is.to_string(), of: vec![] }
    }
}

/// What the state of an operator depends on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Which operator.
    pub kind: String,
    /// What it is to do.
    pub parts: BTreeMap<String, Vec<Item>>,
    /// What happens to rows before they come to it: conditions, what tables before it compute.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub front: BTreeSet<String>,
    /// As earlier versions wrote it (I3).
    #[serde(skip)]
    pub earlier: String,
    /// True if nothing of the state is given up by event time.
    #[serde(skip)]
    pub for_ever: bool,
}

/// What a change means for the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The state fits, as it is or made to.
    Fits,
    /// The state fits, and holds rows that came by the old definition beside those of the new one.
    Mixes,
    /// The state does not fit.
    Breaks,
}

/// One part that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The part.
    pub part: String,
    /// What it was.
    pub was: Vec<String>,
    /// What it is.
    pub is: Vec<String>,
    /// The difference, in words.
    pub words: String,
    /// What it means for the state.
    pub effect: Effect,
    /// What follows from it, where that is not plain.
    pub note: Option<String>,
}

impl Fingerprint {
    /// Of an operator, with the text that earlier versions had for it.
    pub fn new(kind: &str, earlier: String) -> Self {
        Self { kind: kind.to_owned(), earlier, ..Self::default() }
    }

    /// With a part that is one plain value.
    pub fn with(mut self, part: &str, value: impl ToString) -> Self {
        self.parts.insert(part.to_owned(), vec![Item::plain(value)]);
        self
    }

    /// With a part that is several plain values.
    pub fn with_all<T: ToString>(mut self, part: &str, values: impl IntoIterator<Item = T>) -> Self {
        self.parts.insert(part.to_owned(), values.into_iter().map(Item::plain).collect());
        self
    }

    /// Says that nothing of the state is given up by event time.
    pub fn for_ever(mut self, for_ever: bool) -> Self {
        self.for_ever = for_ever;
        self
    }

    /// As it stands in a checkpoint.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| self.earlier.clone())
    }

    /// From a checkpoint; `None` for one of an earlier version.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The values of a part.
    pub fn part(&self, name: &str) -> &[Item] {
        self.parts.get(name).map_or(&[], Vec::as_slice)
    }

    /// The one value of a part, if it is a length of time.
    pub fn micros(&self, part: &str) -> Option<i64> {
        self.part(part).first().and_then(|item| micros(&item.is))
    }

    /// True if what it yields comes and goes. Of a join it is not known from this.
    pub fn changes_results(&self) -> bool {
        matches!(self.kind.as_str(), "changes" | "keyed aggregate" | "keyed over" | "last" | "top")
    }

    /// What it does, for operators behind it.
    pub fn summary(&self) -> String {
        let parts = ["key", "groups", "of", "window", "within", "gap", "type", "on", "condition", "keeps"];
        let told = parts.into_iter().filter(|part| !self.part(part).is_empty()).map(|part| format!("{part} {}", listed(&names(self.part(part)))));
        format!("{} ({})", self.title(), told.collect::<Vec<_>>().join(", "))
    }

    /// What the operator is called in sentences.
    fn title(&self) -> &str {
        title(&self.kind)
    }

    /// What is lost when it starts without its state.
    pub fn loss(&self) -> &'static str {
        match self.kind.as_str() {
            "dedup" => "the keys it remembers: repeats of rows that came before pass as new",
            "window" => "what the windows that are open have taken in: they come out with the rows that are still to come alone",
            "changes" if self.for_ever => "what its groups hold: their results start again from nothing",
            "changes" => "what windows hold that still take rows: they start again from nothing",
            "session" => "the rows of open sessions: they never come out",
            "join" | "windowed join" => "the rows that wait for a partner: rows that are still to come do not meet them",
            "temporal" => "the versions it knows, and the rows that wait for theirs",
            _ => "the rows it keeps: results start again from those that are still to come",
        }
    }

    /// What differs from the fingerprint that state was written with; nothing if it is the same.
    pub fn changes_since(&self, was: &str) -> Vec<Change> {
        if was == self.earlier {
            return vec![];
        }
        let Some(was) = Self::parse(was) else {
            let (was, is) = (vec![was.to_owned()], vec![self.earlier.clone()]);
            let words = format!("it was {}, is {}", was[0], is[0]);
            return vec![Change {
                part: "definition".to_owned(),
                was,
                is,
                words,
                effect: Effect::Breaks,
                note: Some("an earlier version wrote it, which names no parts".to_owned()),
            }];
        };
        if was.kind != self.kind {
            let words = format!("it was {}, is {}", with_article(was.title()), with_article(self.title()));
            let (was, is) = (vec![was.title().to_owned()], vec![self.title().to_owned()]);
            return vec![Change { part: "operator".to_owned(), was, is, words, effect: Effect::Breaks, note: None }];
        }
        let parts: BTreeSet<&String> = was.parts.keys().chain(self.parts.keys()).collect();
        // A table that is new, or gone, was not shown other rows.
        let judged = |part: &String| !(part.starts_with(SHOWN) || part.starts_with(NAMED)) || was.parts.contains_key(part) && self.parts.contains_key(part);
        let differ = parts.into_iter().filter(|part| judged(part) && was.part(part) != self.part(part));
        let mut changes: Vec<Change> = differ.map(|part| self.change(part, &was)).collect();
        if was.front != self.front {
            changes.push(self.front_change(&was.front));
        }
        changes
    }

    fn change(&self, part: &str, was: &Fingerprint) -> Change {
        let (before, now) = (was.part(part), self.part(part));
        let (effect, note) = self.judge(part, was);
        Change { part: part.to_owned(), was: names(before), is: names(now), words: words(part, before, now), effect, note }
    }

    /// I2.
    fn judge(&self, part: &str, was: &Fingerprint) -> (Effect, Option<String>) {
        let (before, now) = (was.part(part), self.part(part));
        let nothing_new = now.iter().all(|item| before.contains(item));
        let same_set = nothing_new && before.iter().all(|item| now.contains(item));
        let fits = |note: &str| (Effect::Fits, (!note.is_empty()).then(|| note.to_owned()));
        let breaks = |note: &str| (Effect::Breaks, (!note.is_empty()).then(|| note.to_owned()));
        if part.starts_with(SHOWN) {
            return breaks("rows that the old one has shown would never be taken back");
        }
        if part.starts_with(NAMED) {
            return breaks("rows that are there by the old one would never be taken back");
        }
        match (self.kind.as_str(), part) {
            ("dedup", "within") if self.micros(part) < was.micros(part) => fits("repeats further apart than that pass from now on"),
            ("dedup", "within") => fits("keys that were forgotten already stay so: the longer interval holds in full for rows that come from now on"),
            ("window" | "changes", "groups") if same_set => fits(""),
            ("window" | "changes", "functions") if nothing_new => fits(""),
            ("window", "functions") => breaks("what a new function would have taken in from rows that came before is not known: windows that are open cannot be filled"),
            ("changes", "functions") => breaks("what a new function would have taken in from rows that came before is not known"),
            ("changes", "lateness") if self.micros(part) < was.micros(part) => fits("windows that are over by the shorter time are given up"),
            ("changes", "lateness") => fits("windows that were given up already stay so"),
            ("changes", "every") => fits(""),
            ("keyed aggregate", "functions") => fits("its rows are kept, so the new functions see them all; a group shows it with its next change"),
            ("temporal", _) => breaks(""),
            (_, "columns" | "left columns" | "right columns") if nothing_new => fits(""),
            (_, "columns" | "left columns" | "right columns") => breaks("rows that are kept have no value for a new column"),
            _ => breaks(""),
        }
    }

    fn front_change(&self, was: &BTreeSet<String>) -> Change {
        let gone: Vec<String> = was.difference(&self.front).cloned().collect();
        let new: Vec<String> = self.front.difference(was).cloned().collect();
        let words = match (gone.is_empty(), new.is_empty()) {
            (false, false) => format!("in front of it was {}, is {}", gone.join("; "), new.join("; ")),
            (false, true) => format!("in front of it was {}, and is not any more", gone.join("; ")),
            _ => format!("in front of it is now {}", new.join("; ")),
        };
        let note = match (self.kind.as_str(), self.for_ever) {
            ("dedup", _) => "what it remembers are the keys of rows that came by the old one",
            (_, true) => "what it keeps is never given up: its results count both for as long as it keeps them",
            (_, false) => "windows that are open at the change hold rows of both; later ones do not",
        };
        Change { part: "front".to_owned(), was: gone, is: new, words, effect: Effect::Mixes, note: Some(note.to_owned()) }
    }
}

fn title(kind: &str) -> &str {
    match kind {
        "dedup" => "deduplication",
        "window" => "aggregate of windows that are final when they close",
        "changes" => "aggregate whose results change",
        "keyed aggregate" => "aggregate over rows that are taken back",
        "session" => "search for sessions",
        "over" => "window of rows",
        "windowed over" => "window of rows in a window",
        "keyed over" => "window of rows whose results change",
        "last" => "choice of the last row of each key",
        "top" => "choice of the first rows",
        "join" => "join of streams",
        "windowed join" => "join of windows",
        "temporal" => "join with versions",
        other => other,
    }
}

fn with_article(title: &str) -> String {
    let article = if title.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {title}")
}

fn names(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| item.is.clone()).collect()
}

fn listed(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    }
}

/// The difference of a part's values, in words.
fn words(part: &str, before: &[Item], now: &[Item]) -> String {
    let (was, is) = (names(before), names(now));
    let added: Vec<String> = is.iter().filter(|name| !was.contains(name)).cloned().collect();
    let removed: Vec<String> = was.iter().filter(|name| !is.contains(name)).cloned().collect();
    let several = matches!(part, "functions" | "columns" | "left columns" | "right columns");
    if added.is_empty() && removed.is_empty() {
        let typed = now.iter().filter_map(|item| before.iter().find(|other| other.is == item.is && other.of != item.of).map(|other| (item, other)));
        let typed: Vec<String> = typed.map(|(item, other)| format!("the type of {} was {}, is {}", item.is, other.of.join(", "), item.of.join(", "))).collect();
        return match typed.is_empty() {
            true => format!("the order of the {part} was ({}), is ({})", was.join(", "), is.join(", ")),
            false => typed.join("; "),
        };
    }
    if several {
        let said = [(added, "added"), (removed, "removed")].into_iter().filter(|(names, _)| !names.is_empty());
        let said = said.map(|(names, what)| format!("{} {} {what}", names.join(", "), if names.len() == 1 { "was" } else { "were" }));
        return said.collect::<Vec<_>>().join("; ");
    }
    // Of several conditions only those that differ.
    let (was, is) = if part.starts_with(SHOWN) { (removed, added) } else { (was, is) };
    let (was, is) = (bracketed(part, &was), bracketed(part, &is));
    match part {
        "groups" => format!("GROUP BY was {was}, is {is}"),
        "of" => format!("PARTITION BY was {was}, is {is}"),
        "within" => format!("WITHIN was {was}, is {is}"),
        "lateness" => format!("ALLOWED LATENESS was {was}, is {is}"),
        "shows" => format!("results came {was}, come {is}"),
        "source" => format!("it read {was}, reads {is}"),
        "time" => format!("the event time was {was}, is {is}"),
        _ => format!("the {part} was {was}, is {is}"),
    }
}

fn bracketed(part: &str, names: &[String]) -> String {
    match (part, names) {
        (_, []) => "none".to_owned(),
        ("key" | "groups" | "of", names) => format!("({})", names.join(", ")),
        (_, names) => names.join(", "),
    }
}

const UNITS: [(&str, i64); 6] = [("day", 86_400_000_000), ("hour", 3_600_000_000), ("minute", 60_000_000), ("second", 1_000_000), ("millisecond", 1_000), ("microsecond", 1)];

/// A length of time in the largest unit of which it is a whole number: nothing is rounded.
pub fn length(micros: i64) -> String {
    let (unit, size) = UNITS.into_iter().find(|(_, size)| micros != 0 && micros % size == 0).unwrap_or(("second", 1));
    let count = micros / size;
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What [`length`] says, read back.
fn micros(text: &str) -> Option<i64> {
    let (count, unit) = text.split_once(' ')?;
    let (_, size) = UNITS.into_iter().find(|(name, _)| unit.trim_end_matches('s') == *name)?;
    count.parse::<i64>().ok()?.checked_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(key: &[&str], within: i64) -> Fingerprint {
        Fingerprint::new("dedup", "old".to_owned()).with_all("key", key).with("within", length(within))
    }

    fn aggregate(kind: &str, window: &str, functions: &[(&str, &str)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::new(kind, String::new()).with("window", window).with_all("groups", ["a"]);
        let items = functions.iter().map(|(is, of)| Item { is: (*is).to_owned(), of: vec![(*of).to_owned()] });
        fingerprint.parts.insert("functions".to_owned(), items.collect());
        fingerprint
    }

    fn front(mut fingerprint: Fingerprint, facts: &[&str]) -> Fingerprint {
        fingerprint.front = facts.iter().map(|fact| (*fact).to_owned()).collect();
        fingerprint
    }

    #[test]
    fn each_change_has_a_name_and_a_verdict() {
        const HOUR: i64 = 3_600_000_000;
        let sums = [("count(*)", "Int64"), ("sum(x)", "Int64")];
        let cases = [
            (dedup(&["a"], HOUR), dedup(&["a", "b"], HOUR), "the key was (a), is (a, b)", Effect::Breaks),
            (dedup(&["a"], HOUR), dedup(&["a"], HOUR / 2), "WITHIN was 1 hour, is 30 minutes", Effect::Fits),
            (dedup(&["a"], HOUR), dedup(&["a"], 2 * HOUR), "WITHIN was 1 hour, is 2 hours", Effect::Fits),
            (aggregate("window", "1 minute", &sums), aggregate("window", "5 minutes", &sums), "the window was 1 minute, is 5 minutes", Effect::Breaks),
            (aggregate("window", "w", &sums[..1]), aggregate("window", "w", &sums), "sum(x) was added", Effect::Breaks),
            (aggregate("window", "w", &sums), aggregate("window", "w", &sums[..1]), "sum(x) was removed", Effect::Fits),
            (
                aggregate("changes", "w", &sums),
                aggregate("changes", "w", &[sums[1], sums[0]]),
                "the order of the functions was (count(*), sum(x)), is (sum(x), count(*))",
                Effect::Fits,
            ),
            (aggregate("changes", "w", &sums), aggregate("changes", "w", &[sums[0], ("sum(x)", "Float64")]), "the type of sum(x) was Int64, is Float64", Effect::Breaks),
            (
                aggregate("window", "w", &sums),
                aggregate("changes", "w", &sums),
                "it was an aggregate of windows that are final when they close, is an aggregate whose results change",
                Effect::Breaks,
            ),
            (front(dedup(&["a"], HOUR), &["x > 1"]), front(dedup(&["a"], HOUR), &["x > 2"]), "in front of it was x > 1, is x > 2", Effect::Mixes),
            (front(dedup(&["a"], HOUR), &["x > 1"]), dedup(&["a"], HOUR), "in front of it was x > 1, and is not any more", Effect::Mixes),
        ];
        for (was, is, words, effect) in cases {
            let changes = is.changes_since(&was.text());
            assert_eq!(changes.len(), 1, "{words}: {changes:?}");
            assert_eq!((changes[0].words.as_str(), changes[0].effect), (words, effect));
            assert_eq!(is.changes_since(&is.text()), vec![], "{words}");
        }
    }

    #[test]
    fn what_an_earlier_version_wrote_is_compared_as_a_whole() {
        let is = dedup(&["a"], 1_000_000);
        assert_eq!(is.changes_since("old"), vec![]);
        let changes = is.changes_since("dedup key=[\"b\"]");
        assert_eq!((changes.len(), changes[0].effect), (1, Effect::Breaks));
        assert!(changes[0].words.contains("key=[\"b\"]"), "{changes:?}");
    }

    #[test]
    fn lengths_lose_nothing() {
        for (micros_, text) in
            [(3_600_000_000, "1 hour"), (90_000_000, "90 seconds"), (1_500_000, "1500 milliseconds"), (1, "1 microsecond"), (0, "0 seconds"), (172_800_000_000, "2 days")]
        {
            assert_eq!((length(micros_).as_str(), micros(text)), (text, Some(micros_)));
        }
    }
}
