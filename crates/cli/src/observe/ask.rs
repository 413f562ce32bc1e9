//! Queries of rules over the project, one at a time, on a thread of their own.

use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::compute::cast;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement;
use tokio::runtime::Runtime;
use watershed_alerts::evaluator::Cell;
use watershed_alerts::{Ask, Rows};
use watershed_types::{Error, Result};

use crate::commands::query::answer;
use crate::project::Project;
use crate::system;

/// Rows that a rule can use.
const ROWS: usize = 1_000;

/// Asks a project.
pub struct ProjectAsk {
    project: Project,
    runtime: Runtime,
}

impl ProjectAsk {
    /// With one thread of its own.
    pub fn new(project: &Project) -> Result<ProjectAsk> {
        let mut settings = project.settings.clone();
        // A rule's query does not compete with the pipeline for every core.
        settings.engine.parallelism = Some(1);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("alert-query").enable_all().build();
        let runtime = runtime.map_err(|e| Error::unavailable("CLI0100", "the thread for queries of rules cannot be started").caused_by(e))?;
        Ok(ProjectAsk { project: Project { root: project.root.clone(), settings }, runtime })
    }
}

impl Ask for ProjectAsk {
    fn ask(&self, sql: &str, timeout: Duration) -> Result<Rows> {
        let failed = |words: String| Error::unavailable("ALR0010", words).hint("Try the query with `watershed query`, and the rule with `watershed alert check`.");
        let context = system::context(&self.project, self.runtime.handle())?;
        let sql = sql.trim().trim_end_matches(';');
        let answered = self.runtime.block_on(async { tokio::time::timeout(timeout, answer(&context, sql)).await });
        let (schema, batches) = match answered {
            Err(_) => return Err(failed(format!("the query took longer than {} s", timeout.as_secs_f64())).hint("Make it cheaper, or give the rule a longer timeout.")),
            // A table that no epoch has written has no rows.
            Ok(Err(error)) if Error::find(&error).is_some_and(|ours| ours.code() == "CLI0061") => return Ok(Rows::default()),
            Ok(Err(error)) => {
                let words = Error::find(&error).map_or_else(|| error.strip_backtrace(), |ours| ours.message().to_owned());
                return Err(failed(format!("the query failed: {words}")));
            }
            Ok(Ok(answer)) => answer,
        };
        let columns = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut rows = Vec::new();
        for batch in &batches {
            let cells: Vec<Vec<Cell>> =
                batch.columns().iter().map(cells).collect::<std::result::Result<_, _>>().map_err(|e| failed("the answer cannot be read".to_owned()).caused_by(e))?;
            rows.extend((0..batch.num_rows()).take(ROWS - rows.len()).map(|row| cells.iter().map(|column| column[row].clone()).collect()));
        }
        Ok(Rows { columns, rows })
    }
}

/// Refuses what is not one query that reads. Whether its tables are there is seen when it is asked: they may come later.
/// Errors: `ALR0003`.
pub fn check(project: &Project, rule: &str, sql: &str) -> Result<()> {
    let wrong = |words: String| {
        Error::invalid("ALR0003", format!("rule \"{rule}\": {words}")).hint("Write one SELECT that `watershed query` answers. In TOML, '…' takes text that has double quotes.")
    };
    let state = SessionContext::new_with_config(system::session_config(project)?).state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement = state.sql_to_statement(sql.trim().trim_end_matches(';'), &dialect);
    match statement.map_err(|error| wrong(format!("its sql cannot be read: {}", error.strip_backtrace())))? {
        Parsed::Statement(statement) if matches!(*statement, Statement::Query(_)) => Ok(()),
        _ => Err(wrong("its sql is not a query".to_owned())),
    }
}

/// A column as numbers where it has numbers, else as text.
fn cells(column: &ArrayRef) -> std::result::Result<Vec<Cell>, arrow::error::ArrowError> {
    if column.data_type().is_numeric() {
        let numbers = cast(column, &DataType::Float64)?;
        return Ok(numbers.as_primitive::<Float64Type>().iter().map(|cell| cell.map_or(Cell::Null, Cell::Number)).collect());
    }
    let options = FormatOptions::default();
    let shown = ArrayFormatter::try_new(column, &options)?;
    (0..column.len()).map(|row| if column.is_null(row) { Ok(Cell::Null) } else { shown.value(row).try_to_string().map(Cell::Text) }).collect()
}
