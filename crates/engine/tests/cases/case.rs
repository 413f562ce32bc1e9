//! A case as a text file, and what it expects.
//!
//! ```text
//! # flink/tvf/tumble-10m
//! What it shows.
//! from: where it is from
//! differs: our rule, where it is another one; the rows below follow ours
//! none: why there is no counterpart; nothing is run
//! steps alone: why what comes out depends on which input came first
//! clock: why a second passes whenever the clock is looked at; else it stands
//! no batch: why history has no such result
//! === sql
//! CREATE …;
//! === rows source [partition]          records, a line each; or one line: file NAME
//! === expect [new] table               a line of names, then rows; `new` is what came since the last time
//! === ledger table late=1 duplicate=2  sums over all epochs; kept=1: rows in the quarantine
//! === end                              the input ends: every window closes
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use watershed_protocol::Account;

/// One case.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub differs: Option<String>,
    pub none: Option<String>,
    pub steps_alone: Option<String>,
    pub no_batch: Option<String>,
    pub clock: Option<String>,
    pub sql: String,
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub enum Step {
    Rows { source: String, partition: String, records: Vec<String> },
    Expect(Expect),
    Ledger { table: String, account: Counts },
    End,
}

/// The rows of a table, cells as text.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    pub names: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Debug, Clone)]
pub struct Expect {
    pub table: String,
    pub new: bool,
    pub rows: Rows,
}

/// Some of a table's accounts.
#[derive(Debug, Clone)]
pub struct Counts(Vec<(String, u64)>);

impl Case {
    fn parse(path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut sections = text.split("\n=== ");
        let head = sections.next().unwrap_or_default();
        let wrong = |what: &str| -> ! { panic!("{}: {what}", path.display()) };
        let Some(name) = head.lines().next().and_then(|line| line.strip_prefix("# ")) else { wrong("starts with \"# name\"") };
        let field = |label: &str| head.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": ")).map(str::to_owned);
        if field("from").is_none() {
            wrong("has no \"from:\"");
        }
        let mut case = Case {
            name: name.to_owned(),
            differs: field("differs"),
            none: field("none"),
            steps_alone: field("steps alone"),
            no_batch: field("no batch"),
            clock: field("clock"),
            sql: String::new(),
            steps: Vec::new(),
        };
        for section in sections {
            let (title, body) = section.split_once('\n').unwrap_or((section, ""));
            let lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
            let words: Vec<&str> = title.split_whitespace().collect();
            match words.as_slice() {
                ["sql"] => case.sql = body.to_owned(),
                ["rows", source, partition @ ..] => {
                    let partition = partition.first().unwrap_or(&"0");
                    case.steps.push(Step::Rows { source: (*source).to_owned(), partition: (*partition).to_owned(), records: lines.flat_map(records).collect() });
                }
                ["expect", "new", table] => case.steps.push(Step::Expect(Expect { table: (*table).to_owned(), new: true, rows: Rows::parse(lines) })),
                ["expect", table] => case.steps.push(Step::Expect(Expect { table: (*table).to_owned(), new: false, rows: Rows::parse(lines) })),
                ["ledger", table, counts @ ..] => {
                    let counts = counts.iter().map(|count| match count.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?))) {
                        Some(count) => count,
                        None => wrong("a count is name=number"),
                    });
                    case.steps.push(Step::Ledger { table: (*table).to_owned(), account: Counts(counts.collect()) });
                }
                ["end"] => case.steps.push(Step::End),
                _ => wrong(&format!("has a section \"{title}\"")),
            }
        }
        if case.none.is_none() && (case.sql.is_empty() || !case.steps.iter().any(|step| matches!(step, Step::Expect(_)))) {
            wrong("says nothing to be run or expected");
        }
        case
    }

    /// Where the steps begin that follow the last input.
    pub fn last_input(&self) -> usize {
        self.steps.iter().rposition(|step| matches!(step, Step::Rows { .. } | Step::End)).unwrap_or(0)
    }

    /// Whether the input ends.
    pub fn ends(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::End))
    }

    /// How many records there are.
    pub fn records(&self) -> usize {
        self.steps.iter().map(|step| if let Step::Rows { records, .. } = step { records.len() } else { 0 }).sum()
    }

    /// What tables hold in the end, of those that are looked at then.
    pub fn at_the_end(&self) -> Vec<Expect> {
        let mut tables: BTreeMap<String, Expect> = BTreeMap::new();
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            let Step::Expect(expect) = step else { continue };
            last.insert(expect.table.clone(), index);
            match (tables.get_mut(&expect.table), expect.new) {
                (Some(so_far), true) => so_far.rows.rows.extend(expect.rows.rows.clone()),
                _ => drop(tables.insert(expect.table.clone(), Expect { new: false, ..expect.clone() })),
            }
        }
        tables.into_values().filter(|expect| last.get(&expect.table).is_some_and(|index| *index > self.last_input())).collect()
    }
}

/// A record, or those of a file.
fn records(line: &str) -> Vec<String> {
    match line.strip_prefix("file ") {
        None => vec![line.to_owned()],
        Some(name) => {
            let text = std::fs::read_to_string(crate::folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            text.lines().map(str::to_owned).collect()
        }
    }
}

impl Rows {
    fn parse<'a>(mut lines: impl Iterator<Item = &'a str>) -> Rows {
        let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<String>>();
        Rows { names: lines.next().map(cells).unwrap_or_default(), rows: lines.map(cells).collect() }
    }

    /// As a bag, cells in one spelling.
    fn sorted(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect::<Vec<_>>().join(" | ")).collect();
        rows.sort();
        rows
    }
}

/// Numbers alike: `11.00` is `11`, and what is not whole has ten digits.
fn plain(cell: &str) -> String {
    match cell.contains('.').then(|| cell.parse::<f64>()) {
        Some(Ok(number)) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        Some(Ok(number)) => format!("{number:.9e}"),
        // Runs of spaces are one, as in the published results.
        _ => cell.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

impl Expect {
    pub fn check(&self, found: &Rows) -> Result<(), String> {
        if found.names != self.rows.names {
            return Err(format!("table {} has the columns {:?}, {:?} expected", self.table, found.names, self.rows.names));
        }
        let (found, expected) = (found.sorted(), self.rows.sorted());
        let mut rest: BTreeMap<&String, i64> = BTreeMap::new();
        expected.iter().for_each(|row| *rest.entry(row).or_default() -= 1);
        found.iter().for_each(|row| *rest.entry(row).or_default() += 1);
        rest.retain(|_, count| *count != 0);
        match rest.is_empty() {
            true => Ok(()),
            false => {
                let shown: Vec<_> = rest.iter().take(12).map(|(row, count)| format!("{count:+}  {row}")).collect();
                let new = if self.new { "new rows of table" } else { "table" };
                Err(format!("{new} {}: {} rows, {} expected; too many (+) or missing (-):\n{}", self.table, found.len(), expected.len(), shown.join("\n")))
            }
        }
    }
}

impl Counts {
    /// `kept` is how many rows wait in the quarantine, of all tables.
    pub fn check(&self, found: &Account, kept: u64) -> Result<(), String> {
        for (name, expected) in &self.0 {
            let value = match name.as_str() {
                "read" => found.read,
                "delivered" => found.delivered,
                "filtered" => found.filtered,
                "duplicate" => found.duplicate,
                "late" => found.late,
                "kept" => kept,
                "quarantined" => found.quarantined,
                other => return Err(format!("the ledger has no \"{other}\"")),
            };
            if value != *expected {
                return Err(format!("the ledger says {name}={value}, {expected} expected: {found:?}"));
            }
        }
        Ok(())
    }
}

/// The cases of a folder, in the order of their names.
pub fn read_all(family: &str) -> Vec<Case> {
    let folder = crate::folder().join(family);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).filter(|path| path.extension().is_some_and(|end| end == "case")).collect();
    paths.sort();
    let cases: Vec<Case> = paths.iter().map(|path| Case::parse(path)).collect();
    for (case, path) in cases.iter().zip(&paths) {
        assert!(path.file_stem().is_some_and(|stem| case.name == format!("{family}/{}", stem.to_string_lossy())), "{} is named {}", path.display(), case.name);
    }
    cases
}
