//! Tables: what they are, how much they hold, what is in them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use watershed_protocol::CommitRecord;

use crate::problem::{Answer, ProblemBody};
use crate::shared::{Shared, blocking};
use crate::sql::{Limits, QueryAnswer, answer, named};
use crate::topology::{ColumnInfo, RuleInfo};

/// Tables.
#[derive(Debug, Serialize, ToSchema)]
pub struct TablesView {
    /// Those of the project, then those of the schema `system`.
    pub tables: Vec<TableView>,
}

/// A table.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableView {
    /// Its name.
    pub name: String,
    /// `table` or `system`.
    pub kind: String,
    /// Where in the lake.
    pub zone: Option<String>,
    /// False if it is kept nowhere.
    pub stored: bool,
    /// Rows, if it has had a commit; not known of a changelog.
    pub rows: Option<u64>,
    /// Bytes that were written into it.
    pub bytes: Option<u64>,
    /// The nodes it reads.
    pub inputs: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnInfo>,
    /// Its partition columns.
    pub partitioned_by: Vec<String>,
    /// Its query.
    pub sql: Option<String>,
    /// Its expectations.
    pub rules: Vec<RuleInfo>,
}

/// A page of rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// So many rows.
    #[param(maximum = 1000)]
    limit: Option<usize>,
    /// After so many.
    #[param(maximum = 1000000)]
    offset: Option<usize>,
}

async fn session(shared: &Arc<Shared>) -> Answer<SessionContext> {
    let opener = Arc::clone(shared);
    blocking(move || opener.project.session()).await
}

/// Rows and bytes by table, as its epochs say: compaction changes neither rows nor this.
fn sizes(records: &[CommitRecord]) -> HashMap<&str, (u64, u64)> {
    let mut sizes: HashMap<&str, (u64, u64)> = HashMap::new();
    for (name, receipt) in records.iter().flat_map(|record| &record.sinks) {
        let size = sizes.entry(name).or_default();
        *size = (size.0 + receipt.rows, size.1 + receipt.bytes);
    }
    sizes
}

async fn views(shared: &Arc<Shared>, only: Option<&str>) -> Answer<Vec<TableView>> {
    let session = session(shared).await?;
    let reader = Arc::clone(shared);
    let records = blocking(move || reader.records()).await?;
    let sizes = sizes(&records);
    let mut views = Vec::new();
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    for table in shared.figures.topology.tables.iter().filter(|table| wanted(&table.name)) {
        let size = sizes.get(table.name.as_str()).copied().filter(|_| table.stored);
        views.push(TableView {
            name: table.name.clone(),
            kind: "table".to_owned(),
            zone: Some(table.zone.clone()),
            stored: table.stored,
            // Of a changelog each row was written once for every change.
            rows: size.map(|size| size.0).filter(|_| !table.changelog),
            bytes: size.map(|size| size.1),
            inputs: table.inputs.clone(),
            columns: table.columns.clone(),
            partitioned_by: table.partitioned_by.clone(),
            sql: Some(table.sql.clone()),
            rules: table.rules.clone(),
        });
    }
    let system = session.catalog("datafusion").and_then(|catalog| catalog.schema("system"));
    for name in system.iter().flat_map(|schema| schema.table_names()).filter(|name| wanted(&format!("system.{name}"))) {
        let Ok(provider) = session.table_provider(datafusion::common::TableReference::partial("system", name.as_str())).await else { continue };
        let columns = provider.schema().fields().iter().map(|f| ColumnInfo { name: f.name().clone(), r#type: f.data_type().to_string(), nullable: f.is_nullable() }).collect();
        views.push(TableView {
            name: format!("system.{name}"),
            kind: "system".to_owned(),
            zone: None,
            stored: true,
            rows: None,
            bytes: None,
            inputs: vec![],
            columns,
            partitioned_by: vec![],
            sql: None,
            rules: vec![],
        });
    }
    Ok(views)
}

/// Every table.
#[utoipa::path(
    get,
    path = "/v1/tables",
    tag = "data",
    responses((status = 200, description = "Tables", body = TablesView), (status = "4XX", description = "Not for you", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn tables(State(shared): State<Arc<Shared>>) -> Answer<Json<TablesView>> {
    Ok(Json(TablesView { tables: views(&shared, None).await? }))
}

/// One table.
#[utoipa::path(
    get,
    path = "/v1/tables/{table}/schema",
    tag = "data",
    params(("table" = String, Path, example = "system.ledger")),
    responses((status = 200, description = "It", body = TableView), (status = "4XX", description = "There is none", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn table(State(shared): State<Arc<Shared>>, Path(table): Path<String>) -> Answer<Json<TableView>> {
    views(&shared, Some(&table)).await?.pop().map(Json).ok_or_else(|| shared.no_table(&table))
}

/// Rows of a table.
///
/// In the lake's order, which stays the same until the next commit.
#[utoipa::path(
    get,
    path = "/v1/tables/{table}/rows",
    tag = "data",
    params(("table" = String, Path), PageQuery),
    responses((status = 200, description = "A page", body = QueryAnswer), (status = "4XX", description = "There is no such table, or it is empty yet", content_type = "application/problem+json", body = ProblemBody))
)]
pub async fn rows(State(shared): State<Arc<Shared>>, Path(table): Path<String>, Query(page): Query<PageQuery>) -> Answer<Json<QueryAnswer>> {
    if !table.starts_with("system.") {
        shared.table(&table)?;
    }
    let limits = Limits { rows: page.limit.unwrap_or(100).clamp(1, 1_000), offset: page.offset.unwrap_or(0).min(1_000_000), time: Duration::from_secs(30) };
    answer(&shared, &format!("SELECT * FROM {}", named(&table)), limits).await.map(Json)
}
