//! `system.state('table')`: what a table's operators hold, as rows.

use std::sync::Arc;

use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::Expr;
use tokio::runtime::Handle;
use watershed_engine::checkpoint::Checkpoint;
use watershed_engine::plan::bind;
use watershed_engine::run::state_of;
use watershed_types::{Error, Result};

use crate::adapters::ProjectLoader;
use crate::project::Project;

/// The table function.
pub struct StateFunction {
    loader: ProjectLoader,
    definitions: Option<watershed_sql::Definitions>,
    checkpoint: Option<Checkpoint>,
}

impl std::fmt::Debug for StateFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateFunction")
    }
}

impl StateFunction {
    /// Over a project's checkpoint as it is when a query names the function.
    pub fn new(project: &Project, checkpoint: Option<Checkpoint>, runtime: Handle) -> Self {
        Self { loader: ProjectLoader::of(project, &runtime), definitions: project.definitions().ok(), checkpoint }
    }

    fn rows(&self, name: &str) -> Result<Arc<dyn TableProvider>> {
        let definitions = self.definitions.as_ref().ok_or_else(|| Error::invalid("CLI0047", "the project's SQL cannot be read").hint("Run `watershed plan` to see why."))?;
        let checkpoint = self
            .checkpoint
            .as_ref()
            .ok_or_else(|| Error::invalid("CLI0047", "there is no state yet").hint("Run `watershed run --once`, or start the pipeline with `watershed up`."))?;
        let mut found = state_of(bind(definitions, &self.loader)?, checkpoint, name)?;
        found.retain(|(_, rows)| !rows.is_empty() || name.contains('/'));
        let ids: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
        let batches = match found.as_slice() {
            [] => {
                return Err(Error::invalid("CLI0047", format!("nothing is kept for \"{name}\""))
                    .hint("system.state lists the operators that keep something: SELECT DISTINCT operator FROM system.state."));
            }
            [(_, rows)] => rows,
            _ => return Err(Error::invalid("CLI0047", format!("\"{name}\" has several operators")).hint(format!("Name one of them: {}.", ids.join(", ")))),
        };
        let Some(first) = batches.first() else {
            return Err(Error::invalid("CLI0047", format!("operator \"{name}\" holds nothing")).hint("Its state is empty at the last committed epoch."));
        };
        // Both sides of a join are there only if they have the same columns.
        let schema = first.schema();
        let same: Vec<_> = batches.iter().filter(|batch| batch.schema() == schema).cloned().collect();
        MemTable::try_new(schema, vec![same]).map(|table| Arc::new(table) as _).map_err(|e| Error::internal("CLI0060", "the state cannot be shown").caused_by(e))
    }
}

impl TableFunctionImpl for StateFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let [Expr::Literal(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)), _)] = args.exprs() else {
            return Err(DataFusionError::Plan("system.state('table') takes the name of a table or of an operator".to_owned()));
        };
        // Restoring reads the checkpoint, which blocks.
        std::thread::scope(|scope| scope.spawn(|| self.rows(name)).join())
            .unwrap_or_else(|_| Err(Error::internal("CLI0060", "reading the state panicked")))
            .map_err(|e| DataFusionError::External(Box::new(e)))
    }
}
