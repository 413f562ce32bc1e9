//! `watershed query`: SQL over tables, the quarantine and `system.*`. Reads only.

pub mod trouble;

use std::io::Read;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::execution::context::SQLOptions;
use datafusion::prelude::SessionContext;
use watershed_types::{Error, Result};

use crate::arguments::{Format, QueryArguments};
use crate::output::{Cell, Sheet, count, print};
use crate::project::Project;
use crate::session::runtime;
use crate::system;

/// Runs the command.
pub fn run(arguments: QueryArguments) -> Result<u8> {
    let project = Project::open(&arguments.project.project)?;
    let sql = text(arguments.sql)?;
    let runtime = runtime()?;
    let context = system::context(&project, runtime.handle())?;
    match runtime.block_on(answer(&context, &sql)) {
        Ok((schema, batches)) => show(&schema, &batches, arguments.format),
        Err(error) => Err(trouble::explain(&error, &sql, &system::names(&project, runtime.handle())?)),
    }
}

/// Runs one statement that only reads.
pub async fn answer(context: &SessionContext, sql: &str) -> DataFusionResult<(SchemaRef, Vec<RecordBatch>)> {
    let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = context.sql_with_options(sql, reading).await?;
    let schema = frame.schema().inner().clone();
    Ok((schema, frame.collect().await?))
}

fn text(argument: String) -> Result<String> {
    let sql = if argument == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|e| Error::invalid("CLI0062", "standard input is not text").caused_by(e))?;
        text
    } else {
        argument
    };
    let sql = sql.trim().trim_end_matches(';').trim_end().to_owned();
    if sql.is_empty() {
        return Err(Error::invalid("CLI0062", "there is no SQL to run").hint("Write a query, such as: watershed query \"SELECT * FROM system.ledger\"."));
    }
    Ok(sql)
}

/// Prints rows.
pub fn show(schema: &SchemaRef, batches: &[RecordBatch], format: Format) -> Result<u8> {
    let right = |kind: &DataType| kind.is_numeric();
    let mut sheet = Sheet::with_columns(schema.fields().iter().map(|f| (f.name().clone(), right(f.data_type()))).collect());
    for batch in batches {
        for row in 0..batch.num_rows() {
            sheet.push(batch.columns().iter().map(|column| Cell::of(column, row)).collect());
        }
    }
    sheet.print(format)?;
    if format == Format::Table {
        print(&format!("({})\n", count(sheet.len() as u64, "row")))?;
    }
    Ok(0)
}
