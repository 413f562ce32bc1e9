//! What `connector = '…'` means: the only list of adapters there is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use watershed_codec::Format;
use watershed_engine::plan::{Plan, SinkPlan, SourcePlan, StaticLoader, TablePlan};
use watershed_engine::run::{Adapters, LiveSink, SinkTarget};
use watershed_files::{CsvFraming, FilesOptions, FilesSource};
use watershed_http::{HttpOptions, Log};
use watershed_kafka::{Delivery, KafkaSource, KafkaSourceOptions, KafkaTarget, Wants};
use watershed_lake::{Compression, Lake, LakeOptions, TableSpec};
use watershed_ports::{LookupTable, RefusedRow, Sink, Source, Target};
use watershed_postgres::PostgresTarget;
use watershed_postgres::read::PostgresLookup;
use watershed_redis::RedisLookup;
use watershed_redshift::RedshiftTarget;
use watershed_simulator::{GeneratorOptions, GeneratorSource, NexmarkOptions, NexmarkSource};
use watershed_sql::{MetadataColumn, StaticDef};
use watershed_types::{Error, Options, Result, near_miss, parse_duration};

use self::sinks::Taken;
use crate::project::Project;

pub(crate) mod sinks;

/// The sources' connectors.
const SOURCES: [&str; 5] = ["files", "http", "generator", "kafka", "nexmark"];
/// The sinks' connectors.
pub(crate) const SINKS: [&str; 6] = ["blackhole", "kafka", "postgres", "redis", "redshift", "stdout"];

/// Adapters of one project.
pub struct ProjectAdapters {
    root: PathBuf,
    work: PathBuf,
    pipeline: String,
    lake: Arc<Lake>,
    runtime: Handle,
    logs: Mutex<Vec<(String, Arc<Log>)>>,
}

pub(crate) fn unknown(owner: &str, connector: &str, known: &[&str]) -> Error {
    let hint = match near_miss(connector, known.iter().copied()) {
        Some(near) => format!("Did you mean '{near}'?"),
        None => format!("Known connectors: {}.", known.join(", ")),
    };
    Error::invalid("CLI0006", format!("{owner}: unknown connector '{connector}'")).hint(hint)
}

/// The lake of a project.
pub fn open_lake(project: &Project, runtime: &Handle) -> Result<Arc<Lake>> {
    let settings = &project.settings.storage;
    let mut options = LakeOptions::new(project.lake());
    options.compression = compression(&settings.compression, "[storage] compression")?;
    options.target_file_bytes = settings.target_file_size;
    options.retention = settings.retention;
    options.storage = storage_options();
    Lake::open(options, runtime.clone())
}

/// Object-store options from the environment, by their usual names.
pub fn storage_options() -> HashMap<String, String> {
    std::env::vars().filter(|(key, _)| key.starts_with("AWS_")).map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()
}

fn compression(text: &str, owner: &str) -> Result<Compression> {
    text.parse::<Compression>().map_err(|e| Error::invalid("CLI0007", format!("{owner}: '{text}' is not a compression")).hint("Use snappy, zstd, zstd(3) or lz4.").caused_by(e))
}

impl ProjectAdapters {
    /// Adapters of a project; opens its lake.
    pub fn new(project: &Project, runtime: &Handle) -> Result<Self> {
        Ok(Self {
            root: project.root.clone(),
            work: project.work(),
            pipeline: project.name(),
            lake: open_lake(project, runtime)?,
            runtime: runtime.clone(),
            logs: Mutex::new(vec![]),
        })
    }

    /// The outside target of a sink, if it has one: a transactional one. Reaches for nothing yet.
    pub fn target(&self, plan: &SinkPlan, table: &TablePlan, app_id: &str) -> Result<Option<Arc<dyn Target>>> {
        let schema = table.delivered_schema();
        Ok(match sinks::take(plan, &schema)? {
            Taken::Kafka(options) if options.delivery == Delivery::ExactlyOnce => Some(Arc::new(KafkaTarget::new(options, app_id, schema)?)),
            Taken::Postgres(options) => Some(Arc::new(PostgresTarget::new(options, app_id, &self.pipeline, schema, self.runtime.clone())?)),
            Taken::Redshift(options) => Some(Arc::new(RedshiftTarget::new(*options, app_id, &self.pipeline, schema, self.runtime.clone())?)),
            _ => None,
        })
    }

    /// Says the newest time that a table holds in the lake.
    fn past(&self, table: &TablePlan) -> impl Fn() -> Result<Option<i64>> + Send + 'static {
        let (lake, runtime, stored) = (Arc::clone(&self.lake), self.runtime.clone(), table.stored);
        let (name, zone, schema, time) = (table.name.clone(), table.zone, Arc::clone(&table.schema), crate::tiers::time_column(table));
        move || {
            if !stored || lake.open_existing(zone.as_str(), &name)?.is_none() {
                return Ok(None);
            }
            let location = lake.location(zone.as_str(), &name)?;
            let cold = watershed_tiers::Cold::new(&name, Arc::clone(&schema), time, location, storage_options(), Arc::new(|| 0));
            runtime.block_on(cold.newest())
        }
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// The embedded logs that were opened, for the API to append to.
    pub fn logs(&self) -> Vec<(String, Arc<Log>)> {
        self.logs.lock().clone()
    }
}

impl Adapters for ProjectAdapters {
    fn source(&self, plan: &SourcePlan) -> Result<Box<dyn Source>> {
        let mut options = plan.options.clone();
        match plan.connector.as_str() {
            "files" => {
                let taken = FilesOptions::take(&mut options, &self.root)?;
                options.finish()?;
                let csv = match &plan.format {
                    Format::Csv(csv) => Some(CsvFraming { quote: csv.quote, header: csv.header }),
                    Format::Json | Format::Text => None,
                };
                Ok(Box::new(FilesSource::new(taken, csv, self.runtime.clone())?))
            }
            "http" => {
                let taken = HttpOptions::take(&mut options)?;
                options.finish()?;
                let log = Log::open(&self.work.join("log").join(&plan.name), &plan.name, taken)?;
                self.logs.lock().push((plan.name.clone(), Arc::clone(&log)));
                Ok(Box::new(log.reader()))
            }
            "generator" => {
                let taken = GeneratorOptions::take(&mut options)?;
                options.finish()?;
                Ok(Box::new(GeneratorSource::new(taken)))
            }
            "nexmark" => {
                let taken = NexmarkOptions::take(&mut options)?;
                options.finish()?;
                Ok(Box::new(NexmarkSource::new(taken)))
            }
            "kafka" => {
                let taken = KafkaSourceOptions::take(&mut options, &plan.name)?;
                options.finish()?;
                let asks = |kind| plan.metadata.iter().any(|(_, asked)| *asked == kind);
                let wants = Wants { key: asks(MetadataColumn::Key), headers: asks(MetadataColumn::Headers), timestamp: asks(MetadataColumn::Timestamp) };
                Ok(Box::new(KafkaSource::new(taken, wants)?))
            }
            other => Err(unknown(options.owner(), other, &SOURCES)),
        }
    }

    fn table(&self, plan: &TablePlan, app_id: &str) -> Result<Arc<dyn Sink>> {
        let mut options = plan.options.clone();
        let compression = table_compression(&mut options, &plan.name)?;
        options.finish()?;
        let spec = TableSpec {
            name: plan.name.clone(),
            folder: plan.zone.as_str().to_owned(),
            schema: plan.delivered_schema(),
            partitioned_by: plan.partitioned_by.clone(),
            app_id: app_id.to_owned(),
            compression,
            key: plan.key_names().map(|names| names.into_iter().map(str::to_owned).collect()),
        };
        Ok(self.lake.table(spec)?)
    }

    fn system_table(&self, name: &str, schema: SchemaRef, app_id: &str) -> Result<Arc<dyn Sink>> {
        let spec = TableSpec { name: name.to_owned(), folder: "system".to_owned(), schema, partitioned_by: vec![], app_id: app_id.to_owned(), compression: None, key: None };
        Ok(self.lake.table(spec)?)
    }

    fn sink(&self, plan: &SinkPlan, table: &TablePlan, app_id: &str) -> Result<SinkTarget> {
        let schema = table.delivered_schema();
        if let Some(target) = self.target(plan, table, app_id)? {
            return Ok(SinkTarget::Outside(target));
        }
        Ok(match sinks::take(plan, &schema)? {
            Taken::Blackhole => SinkTarget::Live(Box::new(Blackhole)),
            Taken::Stdout => SinkTarget::Live(Box::new(Stdout)),
            Taken::Kafka(options) => SinkTarget::Live(Box::new(sinks::LiveKafka::new(options, schema)?)),
            Taken::Postgres(_) | Taken::Redshift(_) => return Err(Error::internal("CLI0013", format!("sink \"{}\" is a target and a live sink at once", plan.name))),
            Taken::Redis(options) => SinkTarget::Live(Box::new(sinks::LiveRedis::new(options, app_id, &self.pipeline, schema, self.past(table))?)),
        })
    }
}

/// Checks every connector's name and options without touching anything.
pub fn check(plan: &Plan, root: &Path) -> Result<()> {
    for source in &plan.sources {
        let mut options = source.options.clone();
        match source.connector.as_str() {
            "files" => FilesOptions::take(&mut options, root).map(|_| ())?,
            "http" => HttpOptions::take(&mut options).map(|_| ())?,
            "generator" => GeneratorOptions::take(&mut options).map(|_| ())?,
            "nexmark" => NexmarkOptions::take(&mut options).map(|_| ())?,
            "kafka" => KafkaSourceOptions::take(&mut options, &source.name).map(|_| ())?,
            other => return Err(unknown(options.owner(), other, &SOURCES)),
        }
        options.finish()?;
    }
    for table in &plan.tables {
        let mut options = table.options.clone();
        table_compression(&mut options, &table.name)?;
        options.finish()?;
    }
    for sink in &plan.sinks {
        sinks::take(sink, &plan.tables[sink.table].delivered_schema())?;
    }
    Ok(())
}

fn table_compression(options: &mut Options, table: &str) -> Result<Option<Compression>> {
    options.take("compression").map(|text| compression(&text, &format!("table \"{table}\""))).transpose()
}

/// Takes everything and keeps nothing.
struct Blackhole;
impl LiveSink for Blackhole {
    fn write(&mut self, _batch: &RecordBatch) -> Result<Vec<RefusedRow>> {
        Ok(vec![])
    }
}

/// Rows as JSON lines on standard output, after each tick.
struct Stdout;
impl LiveSink for Stdout {
    fn write(&mut self, batch: &RecordBatch) -> Result<Vec<RefusedRow>> {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        for row in 0..batch.num_rows() {
            writeln!(out, "{}", watershed_engine::json::row_as_json(batch, row)).map_err(|e| Error::unavailable("CLI0008", "standard output cannot be written").caused_by(e))?;
        }
        Ok(vec![])
    }
}

/// The static tables' connectors.
const STATICS: [&str; 3] = ["files", "postgres", "redis"];

/// Reads static tables: CSV and Parquet files, lake tables; and knows those that are asked by key.
pub struct ProjectLoader {
    /// The project's folder.
    pub root: PathBuf,
    /// The pipeline's name, for the servers that are asked.
    pub pipeline: String,
    /// What reads run on.
    pub runtime: Handle,
}

impl ProjectLoader {
    /// For a project.
    pub fn of(project: &Project, runtime: &Handle) -> ProjectLoader {
        ProjectLoader { root: project.root.clone(), pipeline: project.name(), runtime: runtime.clone() }
    }
}

impl StaticLoader for ProjectLoader {
    fn asked(&self, definition: &StaticDef) -> Result<Option<Arc<dyn LookupTable>>> {
        let mut options = definition.options.clone();
        let connector = options.take("connector").unwrap_or_else(|| "files".to_owned());
        if !matches!(connector.as_str(), "postgres" | "redis") {
            return Ok(None);
        }
        let name = &definition.name;
        let schema: SchemaRef = Arc::new(Schema::new(definition.columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect::<Vec<_>>()));
        let key: Vec<usize> = definition.primary_key.iter().filter_map(|column| schema.index_of(column).ok()).collect();
        let table: Arc<dyn LookupTable> = match connector.as_str() {
            "postgres" => Arc::new(PostgresLookup::new(&mut options, name, schema, key, &self.pipeline, self.runtime.clone())?),
            _ => Arc::new(RedisLookup::new(&mut options, name, schema, key)?),
        };
        options.finish()?;
        Ok(Some(table))
    }

    fn load(&self, definition: &StaticDef) -> Result<RecordBatch> {
        let mut options = definition.options.clone();
        let owner = format!("static table \"{}\"", definition.name);
        let connector = options.take("connector").unwrap_or_else(|| "files".to_owned());
        if connector != "files" {
            return Err(unknown(&owner, &connector, &STATICS));
        }
        let written = options.require("path")?;
        let path = if written.contains("://") { written.clone() } else { self.root.join(&written).display().to_string() };
        let format = options.take("format").unwrap_or_else(|| {
            let extension = std::path::Path::new(&written).extension().map(|e| e.to_string_lossy().into_owned());
            extension.unwrap_or_else(|| "delta".to_owned())
        });
        let header = options.flag("header")?.unwrap_or(true);
        let delimiter = options.parse("delimiter", "one character", |t| (t.len() == 1).then(|| t.as_bytes()[0]))?.unwrap_or(b',');
        options.parse("refresh", "a duration such as '5 minutes'", parse_duration)?;
        options.finish()?;
        let declared =
            (!definition.columns.is_empty()).then(|| Schema::new(definition.columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), c.nullable)).collect::<Vec<_>>()));
        let fail = |e: datafusion::common::DataFusionError| {
            Error::invalid("CLI0009", format!("{}: {owner} cannot be read from \"{written}\"", definition.place)).hint("Check path, format and columns.").caused_by(e)
        };
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        let known = ["csv", "parquet", "delta"];
        // On a thread of its own: the caller may be on a worker of the same runtime.
        std::thread::scope(|scope| {
            let load = || {
                self.runtime.block_on(async {
                    let frame = match format.as_str() {
                        "csv" => {
                            let mut csv = CsvReadOptions::new().has_header(header).delimiter(delimiter).file_extension("");
                            if let Some(schema) = &declared {
                                csv = csv.schema(schema);
                            }
                            context.read_csv(&path, csv).await.map_err(fail)?
                        }
                        "parquet" => context.read_parquet(&path, ParquetReadOptions::default().file_extension("")).await.map_err(fail)?,
                        "delta" => context.read_table(watershed_lake::table_provider(&path, &storage_options()).await?).map_err(fail)?,
                        other => {
                            let hint = match near_miss(other, known) {
                                Some(near) => format!("Did you mean '{near}'?"),
                                None => format!("Known formats: {}.", known.join(", ")),
                            };
                            return Err(Error::invalid("CLI0010", format!("{}: {owner}: unknown format '{other}'", definition.place)).hint(hint));
                        }
                    };
                    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
                    let batches = frame.collect().await.map_err(fail)?;
                    arrow::compute::concat_batches(&batches.first().map_or(schema, |b| b.schema()), &batches).map_err(|e| fail(e.into()))
                })
            };
            scope.spawn(load).join().map_err(|_| Error::internal("CLI0011", format!("{owner} could not be read: the reader panicked")))?
        })
    }
}
