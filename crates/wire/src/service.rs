//! Statements as clients send them: as text, or prepared with parameters.
//!
//! A prepared statement keeps its text, not its plan: each time it runs it is planned over what is committed then.
//!
//! SUBTLE: rows of a portal are sent as they come. `pgwire`'s own way collects as many as the client asks for first,
//! and a client may ask for any number.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DataFusionStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response};
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{ClientInfo, ClientPortalStore, DEFAULT_NAME, PgWireConnectionState, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::Execute;
use datafusion_postgres::pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use futures::{Sink, SinkExt, StreamExt, stream};
use watershed_types::sql::{MOST_CHAINED, chained};

use crate::catalog;
use crate::connection::Connection;
use crate::error::{refuse, worded};
use crate::rows::fields;
use crate::session::{Shared, Snapshot};
use crate::statement::{Action, action};
use crate::stream::{Limits, answer};

/// Open cursors of one connection.
const MOST_CURSORS: usize = 64;

/// Runs statements of every connection.
#[derive(Clone)]
pub(crate) struct Service(pub Arc<Shared>);

/// A statement that was sent ahead.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    sql: String,
    statement: Statement,
    /// Its columns; none for a statement without rows.
    schema: SchemaRef,
    parameters: Vec<Parameter>,
}

/// What is known of `$1`, `$2`, …
#[derive(Debug, Clone)]
struct Parameter {
    arrow: Option<DataType>,
    wire: Type,
}

fn connection<C: ClientInfo + ?Sized>(client: &C) -> Arc<Connection> {
    client.session_extensions().get_or_insert_with(Connection::default)
}

impl Service {
    fn parse(&self, sql: &str, connection: &Connection) -> PgWireResult<Vec<Statement>> {
        if chained(sql) > MOST_CHAINED {
            return Err(refuse("54001", format!("the statement chains more than {MOST_CHAINED} operators; write x IN (…) for many alternatives, or join a list")));
        }
        let known = catalog::spelled_otherwise(sql, &connection.settings.lock());
        self.0.parser.parse(known.as_deref().unwrap_or(sql)).map_err(|e| {
            let text = e.to_string();
            refuse("42601", text.strip_prefix("sql parser error: ").unwrap_or(&text))
        })
    }

    async fn worded(&self, error: datafusion::common::DataFusionError, sql: &str) -> PgWireError {
        worded(&self.0.database.explain(error, sql).await)
    }

    /// What this statement sees: an open transaction's tables, or the newest.
    async fn snapshot(&self, connection: &Connection, status: TransactionStatus) -> PgWireResult<Snapshot> {
        if status != TransactionStatus::Transaction {
            return self.0.snapshot().await;
        }
        let held = connection.transaction.lock().clone();
        if let Some(held) = held {
            return Ok(held);
        }
        let snapshot = self.0.snapshot().await?;
        *connection.transaction.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn context(&self, connection: &Connection, status: TransactionStatus) -> PgWireResult<SessionContext> {
        let snapshot = self.snapshot(connection, status).await?;
        let settings = connection.settings.lock();
        Ok(self.0.context(&snapshot, &settings))
    }

    fn limits(&self, connection: &Connection) -> Limits {
        Limits::new(connection.settings.lock().statement_timeout(), connection.cancels())
    }

    /// Plans a query and begins to answer it.
    async fn read(
        &self,
        connection: &Connection,
        status: TransactionStatus,
        statement: &Statement,
        format: &Format,
        bound: Option<&Portal<Prepared>>,
    ) -> PgWireResult<QueryResponse> {
        metrics::counter!("watershed_wire_statements_total").increment(1);
        let sql = statement.to_string();
        let mut limits = self.limits(connection);
        let work = async {
            let context = self.context(connection, status).await?;
            let run = async {
                let plan = plan(&context, statement).await?;
                let plan = match bound {
                    Some(portal) => match parameters(&plan, &portal.statement.parameter_types).and_then(|known| values(portal, &known)) {
                        Ok(values) => plan.replace_params_with_values(&values)?,
                        Err(error) => return Ok(Err(error)),
                    },
                    None => plan,
                };
                context.execute_logical_plan(plan).await?.execute_stream().await.map(Ok)
            };
            match run.await {
                Ok(batches) => batches,
                Err(error) => Err(self.worded(error, &sql).await),
            }
        };
        let batches = limits.within(work).await??;
        let format_options = connection.settings.lock().format();
        let fields = fields(&batches.schema(), format, &format_options)?;
        answer(batches, fields, limits, Arc::clone(&self.0.database), sql)
    }

    /// Does what a statement says.
    async fn run<C>(&self, client: &mut C, status: TransactionStatus, statement: &Statement, format: &Format, bound: Option<&Portal<Prepared>>) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let connection = connection(client);
        let action = action(statement)?;
        if status == TransactionStatus::Error && !matches!(action, Action::Commit | Action::Rollback) {
            return Err(refuse("25P02", "the transaction has failed; it takes nothing but ROLLBACK"));
        }
        let done = |tag: &str| Ok(Response::Execution(Tag::new(tag)));
        match action {
            Action::Read => self.read(&connection, status, statement, format, bound).await.map(Response::Query),
            Action::Set(changes) => {
                let unset = matches!(&changes[..], [(_, None)]);
                for (name, value) in changes {
                    let told = connection.settings.lock().set(&name, value.as_deref())?;
                    if let Some((name, value)) = told {
                        client.feed(PgWireBackendMessage::ParameterStatus(ParameterStatus::new(name, value))).await?;
                    }
                }
                done(if unset { "RESET" } else { "SET" })
            }
            Action::Show(name) => show(&connection, &name, format).map(Response::Query),
            Action::ResetAll => {
                connection.settings.lock().reset();
                done("RESET")
            }
            Action::Begin if status == TransactionStatus::Transaction => done("BEGIN"),
            Action::Begin => Ok(Response::TransactionStart(Tag::new("BEGIN"))),
            Action::Commit | Action::Rollback => {
                connection.end_transaction();
                let committed = matches!(action, Action::Commit) && status != TransactionStatus::Error;
                Ok(Response::TransactionEnd(Tag::new(if committed { "COMMIT" } else { "ROLLBACK" })))
            }
            Action::Declare { name, query, hold } => {
                if status != TransactionStatus::Transaction && !hold {
                    return Err(refuse("25P01", "DECLARE CURSOR needs a transaction: BEGIN first, or say WITH HOLD"));
                }
                if connection.cursors.lock().len() >= MOST_CURSORS {
                    return Err(refuse("53000", format!("there are {MOST_CURSORS} open cursors already")));
                }
                let rows = self.read(&connection, status, &Statement::Query(Box::new(query.clone())), format, None).await?;
                connection.cursors.lock().insert(name.to_owned(), Arc::new(tokio::sync::Mutex::new(rows)));
                done("DECLARE CURSOR")
            }
            Action::Fetch { name, rows } => fetch(&connection, name, rows).await.map(Response::Query),
            Action::CloseCursor(Some(name)) => match connection.cursors.lock().remove(name) {
                Some(_) => done("CLOSE CURSOR"),
                None => Err(refuse("34000", format!("there is no cursor \"{name}\""))),
            },
            Action::CloseCursor(None) => {
                connection.cursors.lock().clear();
                done("CLOSE CURSOR ALL")
            }
            Action::DiscardAll if status == TransactionStatus::Transaction => Err(refuse("25001", "DISCARD ALL cannot run inside a transaction")),
            Action::DiscardAll => {
                connection.end_transaction();
                connection.settings.lock().reset();
                client.portal_store().clear_portals();
                done("DISCARD ALL")
            }
            Action::Deallocate(name) => {
                if let Some(name) = name {
                    client.portal_store().rm_statement(name);
                }
                done(if name.is_some() { "DEALLOCATE" } else { "DEALLOCATE ALL" })
            }
            Action::Nothing(tag) => done(tag),
        }
    }
}

/// Plans a query that reads and does nothing else.
async fn plan(context: &SessionContext, statement: &Statement) -> DataFusionResult<LogicalPlan> {
    let plan = context.state().statement_to_plan(DataFusionStatement::Statement(Box::new(statement.clone()))).await?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    Ok(plan)
}

/// What a plan's placeholders are: as planned, as cast, as the client says, or text.
fn parameters(plan: &LogicalPlan, given: &[Option<Type>]) -> PgWireResult<Vec<Parameter>> {
    let wrong = |e: datafusion::common::DataFusionError| refuse("42P18", e.strip_backtrace());
    let mut kinds: HashMap<String, Option<DataType>> = plan.get_parameter_types().map_err(wrong)?;
    if kinds.values().any(Option::is_none) {
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    if let Expr::Cast(cast) = part
                        && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                    {
                        kinds.entry(placeholder.id.clone()).or_default().get_or_insert_with(|| cast.field.data_type().clone());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })
        .map_err(wrong)?;
    }
    let number = |id: &str| id.trim_start_matches('$').parse::<usize>().ok().filter(|n| (1..=65_535).contains(n));
    let mut parameters = Vec::new();
    for at in 1..=kinds.keys().filter_map(|id| number(id)).max().unwrap_or(0) {
        let arrow = kinds.get(&format!("${at}")).cloned().flatten();
        let wire = match (given.get(at - 1).cloned().flatten(), &arrow) {
            (Some(said), _) if said != Type::UNKNOWN => said,
            (_, Some(kind)) => into_pg_type(kind)?,
            _ => Type::TEXT,
        };
        parameters.push(Parameter { arrow, wire });
    }
    Ok(parameters)
}

/// A portal's parameters as values.
fn values(portal: &Portal<Prepared>, known: &[Parameter]) -> PgWireResult<ParamValues> {
    if portal.parameter_len() != known.len() {
        return Err(refuse("08P01", format!("there are {} parameters, and the statement has {}", portal.parameter_len(), known.len())));
    }
    if let Format::Individual(codes) = &portal.parameter_format
        && codes.len() != known.len()
    {
        return Err(refuse("08P01", format!("there are {} parameter formats for {} parameters", codes.len(), known.len())));
    }
    let arrow: Vec<_> = known.iter().map(|p| p.arrow.as_ref()).collect();
    let wire: Vec<_> = known.iter().map(|p| Some(&p.wire)).collect();
    deserialize_parameters_with_server_types(portal, &arrow, &wire)
}

/// The answer to SHOW.
fn show(connection: &Connection, name: &str, format: &Format) -> PgWireResult<QueryResponse> {
    let settings = connection.settings.lock();
    let (columns, rows): (Vec<&str>, Vec<Vec<String>>) = if name == "all" {
        (vec!["name", "setting"], settings.all().map(|(name, value)| vec![name.to_owned(), value.to_owned()]).collect())
    } else {
        let (name, value) = settings.get(name)?;
        (vec![name], vec![vec![value]])
    };
    let written = |at: usize| match format {
        Format::UnifiedBinary => FieldFormat::Binary,
        Format::Individual(codes) => codes.get(at).map_or(FieldFormat::Text, |code| FieldFormat::from(*code)),
        Format::UnifiedText => FieldFormat::Text,
    };
    let fields: Vec<FieldInfo> = columns.iter().enumerate().map(|(at, name)| FieldInfo::new((*name).to_owned(), None, None, Type::TEXT, written(at))).collect();
    let fields = Arc::new(fields);
    let mut encoder = DataRowEncoder::new(Arc::clone(&fields));
    let mut encoded = Vec::new();
    for row in rows {
        for value in &row {
            encoder.encode_field(&value.as_str())?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    let mut response = QueryResponse::new(fields, stream::iter(encoded));
    response.set_command_tag("SHOW");
    Ok(response)
}

/// The next rows of a cursor, as they come.
async fn fetch(connection: &Connection, name: &str, rows: Option<u64>) -> PgWireResult<QueryResponse> {
    let found = connection.cursors.lock().get(name).cloned();
    let Some(cursor) = found else { return Err(refuse("34000", format!("there is no cursor \"{name}\""))) };
    let fields = cursor.lock().await.row_schema();
    let next = stream::unfold((cursor, rows), |(cursor, left)| async move {
        if left == Some(0) {
            return None;
        }
        let row = cursor.lock().await.data_rows().next().await?;
        Some((row, (cursor, left.map(|n| n - 1))))
    });
    let mut response = QueryResponse::new(fields, next);
    response.set_command_tag("FETCH");
    Ok(response)
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let statements = self.parse(query, &connection(client))?;
        let mut responses = Vec::new();
        let mut status = client.transaction_status();
        for statement in &statements {
            match self.run(client, status, statement, &Format::UnifiedText, None).await {
                Ok(response) => {
                    match &response {
                        Response::TransactionStart(_) => status = TransactionStatus::Transaction,
                        Response::TransactionEnd(_) => status = TransactionStatus::Idle,
                        _ => {}
                    }
                    responses.push(response);
                }
                Err(error) if responses.is_empty() => return Err(error),
                Err(error) => {
                    responses.push(Response::Error(Box::new(error.into())));
                    break;
                }
            }
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl QueryParser for Service {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let connection = connection(client);
        let mut statements = self.parse(sql, &connection)?;
        if statements.len() > 1 {
            return Err(refuse("42601", "a prepared statement is one statement"));
        }
        let Some(statement) = statements.pop() else { return Ok(None) };
        let prepared = |schema: SchemaRef, parameters| Some(Prepared { sql: sql.to_owned(), statement: statement.clone(), schema, parameters });
        let text = |names: &[&str]| Arc::new(Schema::new(names.iter().map(|n| arrow::datatypes::Field::new(*n, DataType::Utf8, true)).collect::<Vec<_>>()));
        match action(&statement)? {
            Action::Read => {
                if client.transaction_status() == TransactionStatus::Error {
                    return Err(refuse("25P02", "the transaction has failed; it takes nothing but ROLLBACK"));
                }
                let mut limits = self.limits(&connection);
                let work = async {
                    let context = self.context(&connection, client.transaction_status()).await?;
                    match plan(&context, &statement).await {
                        Ok(plan) => Ok((Arc::clone(plan.schema().inner()), parameters(&plan, types)?)),
                        Err(error) => Err(self.worded(error, sql).await),
                    }
                };
                let (schema, parameters) = limits.within(work).await??;
                Ok(prepared(schema, parameters))
            }
            Action::Show(name) if name == "all" => Ok(prepared(text(&["name", "setting"]), vec![])),
            Action::Show(name) => {
                let (name, _) = connection.settings.lock().get(&name)?;
                Ok(prepared(text(&[name]), vec![]))
            }
            Action::Fetch { .. } => Err(refuse("0A000", "FETCH is not known as a prepared statement; set the number of rows of a portal instead")),
            _ => Ok(prepared(Arc::new(Schema::empty()), vec![])),
        }
    }

    fn get_parameter_types(&self, statement: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(statement.parameters.iter().map(|p| p.wire.clone()).collect())
    }

    fn get_result_schema(&self, statement: &Prepared, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        fields(&statement.schema, format.unwrap_or(&Format::UnifiedText), &Arc::default())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = Prepared;
    type QueryParser = Service;

    fn query_parser(&self) -> Arc<Service> {
        Arc::new(self.clone())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let response = self.run(client, client.transaction_status(), &prepared.statement, &portal.result_column_format, Some(portal)).await?;
        if let Response::Query(rows) = &response {
            let now: Vec<_> = rows.row_schema().iter().map(|f| (f.name().to_owned(), f.datatype().clone())).collect();
            let then = self.get_result_schema(prepared, Some(&portal.result_column_format))?;
            if now.len() != then.len() || now.iter().zip(&then).any(|(a, b)| a.1 != *b.datatype()) {
                return Err(refuse("0A000", format!("the columns of \"{}\" have changed since it was prepared", prepared.sql)));
            }
        }
        Ok(response)
    }

    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            Some(Entry::Empty) => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
                return Ok(());
            }
            None => return Err(PgWireError::PortalNotFound(name.to_owned())),
        };
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            match ExtendedQueryHandler::do_query(self, client, &portal, 0).await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                Response::EmptyQuery => return Ok(client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?),
                Response::TransactionStart(tag) => {
                    send_execution_response(client, tag).await?;
                    client.set_transaction_status(TransactionStatus::Transaction);
                    return Ok(());
                }
                Response::TransactionEnd(tag) => {
                    send_execution_response(client, tag).await?;
                    client.set_transaction_status(TransactionStatus::Idle);
                    return Ok(());
                }
                Response::Execution(tag) => return send_execution_response(client, tag).await,
                Response::Error(error) => return Err(PgWireError::UserError(error)),
                Response::CopyIn(_) | Response::CopyOut(_) | Response::CopyBoth(_) => return Err(refuse("0A000", "COPY is not known at this port")),
            }
        }
        // Below one, a client means all.
        let rows = usize::try_from(message.max_rows).unwrap_or(0);
        match &mut *state {
            PortalExecutionState::Suspended(response) => {
                if !send_partial_query_response(client, response, rows).await? {
                    *state = PortalExecutionState::Finished;
                }
            }
            _ => send_execution_response(client, Tag::new("SELECT").with_rows(0)).await?,
        }
        Ok(())
    }
}
