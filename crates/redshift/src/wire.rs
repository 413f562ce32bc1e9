//! The leader node's own protocol, which is that of Postgres.
//!
//! **Owns** one connection. **Does not own** the statements.
//!
//! Only the simple protocol is used: the statements are the texts of [`crate::plan`], whole, and answers come as text.

use std::error::Error as _;

use tokio::runtime::Handle;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, SimpleQueryMessage};
use watershed_types::{Result, Secret};

use crate::backend::Row;
use crate::error::{Fault, Place, Said, ServerWords};
use crate::options::{Address, RedshiftOptions};
use crate::plan::{Plan, Step};

pub(crate) struct Wire {
    client: Client,
    place: Place,
}

/// Whether the connection ended, rather than a statement.
fn ended(cause: &tokio_postgres::Error) -> bool {
    let Some(db) = cause.as_db_error() else { return true };
    let code = db.code().code();
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) || code.starts_with("08") || code.starts_with("57P")
}

fn said(cause: &tokio_postgres::Error) -> Said {
    let Some(db) = cause.as_db_error() else { return Said { code: None, words: cause.to_string() } };
    let mut words = db.message().to_owned();
    if let Some(detail) = db.detail() {
        words.push_str(": ");
        // Redshift draws lines around its details.
        words.push_str(&detail.split_whitespace().filter(|word| !word.starts_with("---")).collect::<Vec<_>>().join(" "));
    }
    Said { code: Some(db.code().code().to_owned()), words }
}

impl Wire {
    pub async fn connect(options: &RedshiftOptions, url: &Secret, place: &Place, pipeline: &str, runtime: &Handle) -> Result<Self> {
        let address = Address::parse(&options.sink, url.expose())?;
        let mut config = address.config;
        config.application_name(format!("watershed {pipeline}/{}", options.sink)).connect_timeout(options.connect_timeout).keepalives_idle(std::time::Duration::from_secs(30));
        // The whole of it is limited: a server that takes the connection and never speaks counts as absent.
        let connecting = tokio::time::timeout(options.connect_timeout * 2, config.connect(address.tls));
        let (client, connection) = match connecting.await {
            Ok(Ok(connected)) => connected,
            Ok(Err(cause)) if matches!(cause.code().map(SqlState::code), Some("28P01" | "28000")) => return Err(place.denied(ServerWords("the login failed".to_owned()))),
            Ok(Err(cause)) => {
                let words = cause.source().map_or_else(|| cause.to_string(), ToString::to_string);
                return Err(place.absent(ServerWords(words)));
            }
            Err(_) => return Err(place.absent(ServerWords("no answer in time".to_owned()))),
        };
        let sink = options.sink.clone();
        runtime.spawn(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(sink, %cause, "connection ended");
            }
        });
        let wire = Self { client, place: place.clone() };
        wire.alone(&format!("SET statement_timeout TO {}", options.statement_timeout.as_millis().min(i32::MAX as u128))).await?;
        Ok(wire)
    }

    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    fn error(&self, cause: tokio_postgres::Error) -> watershed_types::Error {
        if ended(&cause) { self.place.lost(false, cause) } else { self.place.judge(Step::Record, &said(&cause)).into_error(&self.place) }
    }

    pub async fn query(&self, sql: &str) -> Result<Vec<Row>> {
        let messages = self.client.simple_query(sql).await.map_err(|cause| self.error(cause))?;
        let row = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect()),
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    pub async fn alone(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|cause| self.error(cause))
    }

    pub async fn transaction(&self, plan: &Plan, durable: bool) -> Result<(), Fault> {
        self.alone("BEGIN").await?;
        for statement in &plan.statements {
            let Err(cause) = self.client.batch_execute(&statement.sql).await else { continue };
            if ended(&cause) {
                return Err(self.place.lost(false, cause).into());
            }
            self.alone("ROLLBACK").await?;
            return Err(self.place.judge(statement.step, &said(&cause)));
        }
        if durable {
            watershed_types::failpoint::reach("redshift_sent");
        }
        let Err(cause) = self.client.batch_execute("COMMIT").await else { return Ok(()) };
        if ended(&cause) {
            return Err(self.place.lost(durable, cause).into());
        }
        // A commit that is refused rolled back: a conflict that is found late.
        Err(self.place.judge(Step::Record, &said(&cause)))
    }
}
