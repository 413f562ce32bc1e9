//! `CREATE SINK`: a connector's options, and live sinks as the engine drives them.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use watershed_engine::plan::SinkPlan;
use watershed_engine::run::{LiveSink, SpoolOptions};
use watershed_kafka::{Delivery, KafkaLive, KafkaSinkOptions};
use watershed_ports::RefusedRow;
use watershed_postgres::PostgresOptions;
use watershed_redis::{RedisLive, RedisOptions};
use watershed_redshift::RedshiftOptions;
use watershed_types::{Epoch, Error, Generation, Result};

use super::{SINKS, storage_options, unknown};

/// How long rows may take to be acknowledged before their epoch fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// A sink's options, understood.
pub enum Taken {
    Blackhole,
    Stdout,
    Kafka(KafkaSinkOptions),
    Postgres(PostgresOptions),
    Redis(RedisOptions),
    Redshift(Box<RedshiftOptions>),
}

/// Reads a sink's options. Touches nothing outside.
pub fn take(plan: &SinkPlan, schema: &SchemaRef) -> Result<Taken> {
    let mut options = plan.options.clone();
    // What a target that is away means for the others is the engine's; live sinks know no such thing.
    let spools = matches!(plan.connector.as_str(), "kafka" | "postgres" | "redshift") && SpoolOptions::take(&mut options)?.is_some();
    let taken = match plan.connector.as_str() {
        "blackhole" => Taken::Blackhole,
        "stdout" => Taken::Stdout,
        "kafka" => Taken::Kafka(KafkaSinkOptions::take(&mut options, &plan.name, schema)?),
        "postgres" => Taken::Postgres(PostgresOptions::take(&mut options, &plan.name)?),
        "redis" => Taken::Redis(RedisOptions::take(&mut options, &plan.name, schema)?),
        "redshift" => Taken::Redshift(Box::new(RedshiftOptions::take(&mut options, &plan.name, &storage_options())?)),
        other => return Err(unknown(options.owner(), other, &SINKS)),
    };
    options.finish()?;
    if let Taken::Kafka(kafka) = &taken
        && spools
        && kafka.delivery != Delivery::ExactlyOnce
    {
        return Err(Error::invalid("CLI0092", format!("sink \"{}\": on_unavailable = 'spool' is for delivery = 'exactly_once'", plan.name))
            .hint("With at_least_once messages leave before their epoch and are kept nowhere: leave one of the two out."));
    }
    Ok(taken)
}

/// A Kafka topic that gets rows at once and at least once.
pub struct LiveKafka(KafkaLive);

impl LiveKafka {
    pub fn new(options: KafkaSinkOptions, schema: SchemaRef) -> Result<Self> {
        KafkaLive::new(options, schema).map(Self)
    }
}

impl LiveSink for LiveKafka {
    fn write(&mut self, batch: &RecordBatch) -> Result<Vec<RefusedRow>> {
        self.0.write(batch)
    }
    fn flush(&mut self) -> Result<()> {
        self.0.flush(PATIENCE)
    }
}

/// Hot keys.
pub struct LiveRedis {
    redis: RedisLive,
    generation: Generation,
}

impl LiveRedis {
    /// `past` says the newest time the table holds in the lake.
    pub fn new(options: RedisOptions, app_id: &str, pipeline: &str, schema: SchemaRef, past: impl Fn() -> Result<Option<i64>> + Send + 'static) -> Result<Self> {
        Ok(Self { redis: RedisLive::new(options, app_id, pipeline, schema)?.with_past(past), generation: Generation(0) })
    }
}

impl LiveSink for LiveRedis {
    fn claim(&mut self, generation: Generation) -> Result<()> {
        self.generation = generation;
        self.redis.claim(generation).map(|_| ())
    }
    fn write(&mut self, batch: &RecordBatch) -> Result<Vec<RefusedRow>> {
        self.redis.write(batch).map(|()| vec![])
    }
    fn tick(&mut self) -> Result<()> {
        self.redis.flush()
    }
    fn flush(&mut self) -> Result<()> {
        self.redis.flush()
    }
    fn committed(&mut self, epoch: Epoch) -> Result<()> {
        self.redis.stamp(epoch, self.generation)
    }
}
