//! Rules over history: WARN keeps a row, DROP and QUARANTINE leave it out, FAIL is a guard.
//!
//! A rule holds only where it is true: NULL breaks it. Of the rows that one source row was multiplied into, one that
//! breaks a rule holds all of them back, here and in every table further on, until windows make results of them.

use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, TableReference};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, SubqueryAlias, lit, not, when};
use watershed_sql::OnViolation;

use super::relation::{Rows, all_columns, any_of, column, with_windows};
use super::{Guard, Lowering, Meaning, without};

const BREAKS: &str = "__ws_breaks";
const HELD: &str = "__ws_held";

impl Lowering<'_> {
    /// Leaves out what breaks the rules of a table.
    pub(super) fn judged(&mut self, index: usize, rows: Rows) -> Result<Rows> {
        let table = &self.plan.tables[index];
        let conditions = self.conditions(index)?;
        let mut breaks: Vec<Expr> = Vec::new();
        // The name the conditions were planned under.
        let named = LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(Arc::new(rows.plan.clone()), check_name(&table.name))?);
        for (rule, condition) in table.rules.iter().zip(conditions) {
            let breach = not(condition.is_true());
            if rule.on_violation == OnViolation::Fail {
                let offending = LogicalPlanBuilder::from(named.clone()).filter(breach.clone())?.build()?;
                let meaning = Meaning::Rule { table: table.name.clone(), rule: rule.name.clone(), text: rule.text.clone() };
                self.guards.push(Guard { offending, meaning });
            }
            if rule.on_violation != OnViolation::Warn {
                breaks.push(breach);
            }
        }
        let Some(any) = breaks.into_iter().reduce(Expr::or) else { return Ok(rows) };
        let names: Vec<Expr> = all_columns(&named).into_iter().map(|c| Expr::Column(c.clone()).alias(c.name)).collect();
        let plan = if rows.multiplied {
            let flagged = LogicalPlanBuilder::from(named).project(names.into_iter().chain([when(any, lit(1_i64)).otherwise(lit(0_i64))?.alias(BREAKS)]))?.build()?;
            let source_row = rows.order[..rows.identity].iter().map(|name| column(name)).collect();
            let held = with_windows(flagged, vec![(HELD, any_of(column(BREAKS), source_row)?)])?;
            let columns = without(&held, &[BREAKS, HELD]);
            LogicalPlanBuilder::from(held).filter(column(HELD).eq(lit(0_i64)))?.project(columns)?.build()?
        } else {
            LogicalPlanBuilder::from(named).filter(not(any))?.project(names)?.build()?
        };
        Ok(Rows { plan, ..rows })
    }

    /// The conditions of a table's rules, as they were written, over its columns.
    fn conditions(&self, index: usize) -> Result<Vec<Expr>> {
        let table = &self.plan.tables[index];
        if table.rules.is_empty() {
            return Ok(vec![]);
        }
        // A comment at the end of a condition ends with its line.
        let selected: Vec<String> = table.rules.iter().enumerate().map(|(i, rule)| format!("({}\n) AS rule_{i}", rule.text)).collect();
        let sql = format!("SELECT {} FROM \"{}\"", selected.join(", "), check_name(&table.name).table().replace('"', "\"\""));
        let state = self.plan.context.state();
        let LogicalPlan::Projection(projection) = futures::executor::block_on(state.create_logical_plan(&sql))? else {
            return Err(DataFusionError::Internal("rules are no projection".to_owned()));
        };
        projection.expr.into_iter().map(|e| self.pin(e.unalias())).collect()
    }
}

/// Binding has registered a table's columns under this name to plan its rules.
fn check_name(table: &str) -> TableReference {
    TableReference::bare(format!("__ws_check_{table}"))
}
