//! The statements of each kind of transaction, as text that a person can review.
//!
//! **Owns** every statement that writes, and their order. **Does not own** how they reach Redshift: [`crate::wire`] sends them
//! one by one between `BEGIN` and `COMMIT`, [`crate::data_api`] as one batch.
//!
//! A batch cannot branch, so a guard is a statement that fails: it divides by zero.

use std::fmt;

use watershed_types::{Epoch, Generation};

use crate::columns::{Columns, qualified};
use crate::ledger::{Writer, literal};
use crate::options::{Mode, RedshiftOptions};

/// The staging table: temporary, of one transaction.
const STAGE: &str = "watershed_stage";
/// Where a trial load puts its rows: temporary too.
const TRIAL: &str = "watershed_trial";
/// The row's ordinal in its epoch.
pub(crate) const ORDER: &str = "_watershed_order";
/// Whether the row deletes its key.
pub(crate) const DELETE: &str = "_watershed_delete";

/// What a statement is for, so that its failure can be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Waits for every other transaction of this sink.
    Lock,
    /// Fails unless the sink is ours.
    Owner,
    /// Fails if the epoch is there.
    Epoch,
    /// Makes a temporary table.
    Make,
    /// Loads the staged files.
    Copy,
    /// Deletes the keys that come anew.
    Delete,
    /// Adds the rows.
    Insert,
    /// Loads the refused rows' list.
    Refused,
    /// Writes a line in schema `watershed`.
    Record,
    /// Drops a temporary table.
    Drop,
}

/// One statement.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub step: Step,
    pub sql: String,
}

/// The statements of one transaction, without `BEGIN` and `COMMIT`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub statements: Vec<Statement>,
}

impl Plan {
    fn with(mut self, step: Step, sql: impl Into<String>) -> Self {
        self.statements.push(Statement { step, sql: sql.into() });
        self
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "BEGIN;")?;
        for statement in &self.statements {
            writeln!(f, "-- {:?}\n{};", statement.step, statement.sql)?;
        }
        writeln!(f, "COMMIT;")
    }
}

/// What a delivery writes.
pub(crate) struct Delivery<'a> {
    pub options: &'a RedshiftOptions,
    pub writer: &'a Writer,
    /// As they fit the table.
    pub columns: &'a Columns,
    pub epoch: Epoch,
    pub generation: Generation,
    /// The manifest of the staged rows; none if the epoch has none.
    pub manifest: Option<&'a str>,
    /// The manifest of the refused rows; none if there are none.
    pub refused_manifest: Option<&'a str>,
    pub rows: u64,
    pub refused: u64,
    /// Lock schema `watershed` as a whole: only in a database with serializable isolation, where sinks would abort each other.
    pub alone: bool,
}

impl Delivery<'_> {
    /// The transaction.
    pub fn plan(&self) -> Plan {
        let Self { options, writer, columns, epoch, generation, .. } = self;
        let mine = format!("app_id = {} AND sink = {}", literal(&writer.app_id), literal(&writer.sink));
        let mut plan = Plan::default().with(Step::Lock, lock(writer, self.alone));
        plan = plan.with(Step::Owner, guard("watershed.owners", &format!("{mine} AND generation = {generation}", generation = generation.0), "= 1"));
        plan = plan.with(Step::Epoch, guard("watershed.epochs", &format!("{mine} AND epoch = {epoch}", epoch = epoch.0), "= 0"));
        if let Some(manifest) = self.manifest {
            plan = plan.with(Step::Make, make_stage(options, columns)).with(Step::Copy, copy(STAGE, manifest, &options.iam_role));
            if options.mode == Mode::Upsert {
                plan = plan.with(Step::Delete, delete(options, columns));
            }
            plan = plan.with(Step::Insert, insert(&qualified(options), options, columns)).with(Step::Drop, format!("DROP TABLE {STAGE}"));
        }
        if let Some(manifest) = self.refused_manifest {
            plan = plan.with(Step::Refused, copy("watershed.refused", manifest, &options.iam_role));
        }
        let line = format!(
            "INSERT INTO watershed.epochs (app_id, pipeline, sink, epoch, generation, \"rows\", refused, committed_at)\nVALUES ({}, {}, {}, {}, {}, {}, {}, GETDATE())",
            literal(&writer.app_id),
            literal(&writer.pipeline),
            literal(&writer.sink),
            epoch.0,
            generation.0,
            self.rows,
            self.refused
        );
        plan.with(Step::Record, line)
    }
}

/// A trial load: the same load and the same casts, into tables that nobody sees.
pub(crate) fn trial_plan(options: &RedshiftOptions, columns: &Columns, manifest: &str) -> Plan {
    let append = RedshiftOptions { mode: Mode::Append, ..options.clone() };
    Plan::default()
        .with(Step::Make, make_stage(options, columns))
        .with(Step::Make, format!("CREATE TEMP TABLE {TRIAL} AS\nSELECT {} FROM {} WHERE 1 = 0", columns.names(), qualified(options)))
        .with(Step::Copy, copy(STAGE, manifest, &options.iam_role))
        .with(Step::Insert, insert(TRIAL, &append, columns))
        .with(Step::Drop, format!("DROP TABLE {TRIAL}"))
        .with(Step::Drop, format!("DROP TABLE {STAGE}"))
}

/// Takes the sink for a generation: waits for transactions of older ones, which come before it or not at all.
pub(crate) fn claim_plan(writer: &Writer, generation: Generation, alone: bool) -> Plan {
    let mine = format!("app_id = {} AND sink = {}", literal(&writer.app_id), literal(&writer.sink));
    Plan::default()
        .with(Step::Lock, lock(writer, alone))
        .with(Step::Owner, guard("watershed.owners", &format!("{mine} AND generation > {}", generation.0), "= 0"))
        .with(Step::Record, format!("DELETE FROM watershed.owners\nWHERE {mine}"))
        .with(
            Step::Record,
            format!(
                "INSERT INTO watershed.owners (app_id, pipeline, sink, generation, claimed_at)\nVALUES ({}, {}, {}, {}, GETDATE())",
                literal(&writer.app_id),
                literal(&writer.pipeline),
                literal(&writer.sink),
                generation.0
            ),
        )
}

/// The statements that add columns, one each, as Redshift wants them.
pub(crate) fn grow(options: &RedshiftOptions, missing: &[crate::columns::Column]) -> Vec<String> {
    missing.iter().map(|column| format!("ALTER TABLE {} ADD COLUMN {} {}", qualified(options), crate::columns::quote(&column.name), column.made_as)).collect()
}

/// `VACUUM`, which no transaction takes.
pub(crate) fn vacuum(options: &RedshiftOptions) -> String {
    format!("VACUUM {} {}", options.vacuum, qualified(options))
}

/// `ANALYZE`.
pub(crate) fn analyze(options: &RedshiftOptions) -> String {
    format!("ANALYZE {}", qualified(options))
}

/// SUBTLE: the first statement of a transaction. Redshift takes the snapshot at the first statement that reads, which so
/// comes after everything that was committed under this lock.
fn lock(writer: &Writer, alone: bool) -> String {
    if alone { format!("LOCK {}, watershed.owners, watershed.epochs, watershed.refused", writer.lock_table()) } else { format!("LOCK {}", writer.lock_table()) }
}

fn guard(table: &str, condition: &str, wanted: &str) -> String {
    format!("SELECT 1 / CASE WHEN count(*) {wanted} THEN 1 ELSE 0 END FROM {table}\nWHERE {condition}")
}

fn make_stage(options: &RedshiftOptions, columns: &Columns) -> String {
    let mut lines: Vec<String> = columns.list.iter().map(|column| format!("  {} {}", crate::columns::quote(&column.name), column.staged.sql())).collect();
    lines.push(format!("  {ORDER} BIGINT"));
    if columns.delete.is_some() {
        lines.push(format!("  {DELETE} BOOLEAN"));
    }
    let mut sql = format!("CREATE TEMP TABLE {STAGE} (\n{}\n)", lines.join(",\n"));
    // Rows meet those they replace on the same node.
    if options.mode == Mode::Upsert {
        sql.push_str(&format!(" DISTSTYLE KEY DISTKEY ({})", columns.keys()[0]));
    }
    sql
}

/// COPY fills columns by their order, so both tables have exactly the files' columns.
fn copy(table: &str, manifest: &str, iam_role: &str) -> String {
    let role = if iam_role == "default" { "default".to_owned() } else { format!("'{iam_role}'") };
    format!("COPY {table} FROM '{manifest}'\nIAM_ROLE {role} FORMAT AS PARQUET MANIFEST")
}

/// SUBTLE: compared as the table has them. A staged time without zone beside one with would be read in the session's zone.
fn delete(options: &RedshiftOptions, columns: &Columns) -> String {
    let table = crate::columns::quote(&options.table);
    let keys = columns.list.iter().filter(|column| column.key);
    let same: Vec<String> = keys.map(|key| format!("{table}.{} = {}", crate::columns::quote(&key.name), key.expression(Some(STAGE)))).collect();
    format!("DELETE FROM {} USING {STAGE}\nWHERE {}", qualified(options), same.join(" AND "))
}

/// The last row of a key by the stream's order wins.
fn insert(into: &str, options: &RedshiftOptions, columns: &Columns) -> String {
    let expressions: Vec<String> = columns.list.iter().map(|column| column.expression(None)).collect();
    let select = format!("INSERT INTO {into} ({})\nSELECT {}", columns.names(), expressions.join(", "));
    if options.mode == Mode::Append {
        return format!("{select}\nFROM {STAGE}");
    }
    let kept = if columns.delete.is_some() { format!(" AND NOT {DELETE}") } else { String::new() };
    format!(
        "{select}\nFROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {} ORDER BY {ORDER} DESC) AS _watershed_place FROM {STAGE}) AS latest\nWHERE _watershed_place = 1{kept}",
        columns.keys().join(", ")
    )
}
