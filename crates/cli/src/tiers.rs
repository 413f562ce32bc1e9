//! Reads over tiers: which sinks of a project are tiers of which table.
//!
//! **Owns** that choice. **Does not own** reading, nor the route: `watershed-tiers` has both.
//!
//! A table is in the lake. The first Postgres sink that upserts it (or else the first that appends) is its warm tier and says
//! its key; the first Redis sink with the same key is its hot tier. Without a Postgres sink the Redis sink says the key.
//! A changelog's tiers are those that take its deletes.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use tokio::runtime::Handle;
use watershed_engine::plan::{DELETED, Plan, SinkPlan, TablePlan};
use watershed_engine::run::SharedStatus;
use watershed_lake::Lake;
use watershed_postgres::read::PostgresReader;
use watershed_postgres::{Mode, PostgresOptions};
use watershed_redis::{RedisOptions, RedisReader};
use watershed_tiers::{Cold, Committed, Hot, Tier, TieredTable, Warm};
use watershed_types::Result;

use crate::adapters::sinks::{Taken, take};
use crate::adapters::storage_options;

/// A table, and the sinks that are its tiers.
pub struct Readable {
    name: String,
    schema: SchemaRef,
    time: Option<usize>,
    key: Vec<usize>,
    location: String,
    warm: Option<(String, PostgresOptions)>,
    hot: Option<(String, RedisOptions)>,
}

/// The place of a table's time column: a window's start, or the event time that was passed through.
pub fn time_column(table: &TablePlan) -> Option<usize> {
    let window = table.schema.index_of("window_start").ok().filter(|_| table.aggregated);
    window.or_else(|| table.rowtime.iter().position(|time| *time))
}

/// Every stored table of a plan. Reaches for nothing.
pub fn readable(plan: &Plan, lake: &Lake) -> Result<Vec<Readable>> {
    let mut all = Vec::new();
    for (index, table) in plan.tables.iter().enumerate().filter(|(_, table)| table.stored) {
        let sinks: Vec<&SinkPlan> = plan.sinks.iter().filter(|sink| sink.table == index).collect();
        all.push(one(table, &sinks, lake.location(table.zone.as_str(), &table.name)?)?);
    }
    Ok(all)
}

fn one(table: &TablePlan, sinks: &[&SinkPlan], location: String) -> Result<Readable> {
    let (mut postgres, mut redis) = (Vec::new(), Vec::new());
    for sink in sinks {
        match take(sink, &table.delivered_schema())? {
            // Of a changelog only a sink that takes deletes shows what the table holds.
            Taken::Postgres(options) if table.key.is_none() || options.delete_when.as_deref() == Some(DELETED) => postgres.push((sink.name.clone(), options)),
            Taken::Redis(options) if table.key.is_none() => redis.push((sink.name.clone(), options)),
            _ => {}
        }
    }
    let upserting = postgres.iter().position(|(_, options)| options.mode == Mode::Upsert);
    let warm = if postgres.is_empty() { None } else { Some(postgres.swap_remove(upserting.unwrap_or(0))) };
    let declared: Option<Vec<usize>> = warm.as_ref().filter(|(_, options)| options.mode == Mode::Upsert).map(|(_, options)| {
        // The options were checked against the columns.
        options.key.iter().filter_map(|name| table.schema.index_of(name).ok()).collect()
    });
    let same = |key: &[usize], other: &[usize]| key.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>();
    let hot = redis.into_iter().find(|(_, options)| declared.as_ref().is_none_or(|key| same(key, &options.key_columns())));
    let key = declared.or_else(|| hot.as_ref().map(|(_, options)| options.key_columns())).unwrap_or_default();
    Ok(Readable { name: table.name.clone(), schema: Arc::clone(&table.schema), time: time_column(table), key, location, warm, hot })
}

/// The tables with their tiers, for this life of the pipeline. Nothing is connected to before a read.
pub fn tables(readable: Vec<Readable>, pipeline: &str, id: &str, status: &SharedStatus, runtime: &Handle) -> Result<Vec<TieredTable>> {
    readable.into_iter().map(|readable| tiers(readable, pipeline, id, status, runtime)).collect()
}

fn tiers(readable: Readable, pipeline: &str, id: &str, status: &SharedStatus, runtime: &Handle) -> Result<TieredTable> {
    let Readable { name, schema, time, key, location, warm, hot } = readable;
    let status = Arc::clone(status);
    let committed: Committed = Arc::new(move || status.read().epoch);
    let app_id = |sink: &str| format!("watershed/{id}/{sink}");
    let cold = Cold::new(&name, Arc::clone(&schema), time, location, storage_options(), Arc::clone(&committed));
    let mut tiers: Vec<Arc<dyn Tier>> = vec![Arc::clone(&cold) as Arc<dyn Tier>];
    if let Some((sink, options)) = warm {
        let reader = PostgresReader::new(options, pipeline, runtime.clone());
        tiers.push(Arc::new(Warm::new(&name, Arc::clone(&schema), time, &app_id(&sink), &sink, reader, Arc::clone(&cold))));
    }
    if let Some((sink, options)) = hot {
        let reader = RedisReader::new(options, pipeline, Arc::clone(&schema))?;
        tiers.push(Arc::new(Hot::new(&name, Arc::clone(&schema), time, &app_id(&sink), reader, committed)));
    }
    Ok(TieredTable::new(&name, schema, time, key, tiers))
}
