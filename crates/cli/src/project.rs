//! A project: a folder with `watershed.toml` and `*.sql`.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use watershed_engine::checkpoint::KeepStaged;
use watershed_sql::{Definitions, SqlFile, parse_project};
use watershed_types::{Error, Result, parse_bytes, parse_duration};

/// A project as read from its folder.
pub struct Project {
    /// The folder.
    pub root: PathBuf,
    /// The settings.
    pub settings: Settings,
}

/// `watershed.toml`. An empty file means defaults; an unknown key is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The project's name; the folder's without it.
    pub name: Option<String>,
    pub engine: EngineSettings,
    pub storage: StorageSettings,
    pub checkpoints: CheckpointSettings,
    pub serve: ServeSettings,
    pub alerts: watershed_alerts::Settings,
    pub telemetry: TelemetrySettings,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSettings {
    /// Backups that `up` takes by itself.
    pub backup: Option<BackupSettings>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSettings {
    /// Where to: a path or an object-store URL.
    pub to: String,
    /// How often.
    #[serde(deserialize_with = "duration", default = "day")]
    pub every: Duration,
    /// How long one is kept; the newest always is.
    #[serde(deserialize_with = "duration", default = "week")]
    pub keep: Duration,
}

fn day() -> Duration {
    Duration::from_secs(86_400)
}

fn week() -> Duration {
    Duration::from_secs(7 * 86_400)
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineSettings {
    /// The transaction cadence.
    #[serde(deserialize_with = "duration")]
    pub epoch_interval: Duration,
    /// Raw bytes after which an epoch ends early.
    #[serde(deserialize_with = "bytes")]
    pub epoch_bytes: u64,
    /// Records a tick takes at most.
    pub max_rows_per_tick: u64,
    /// Raw bytes a tick takes at most.
    #[serde(deserialize_with = "bytes")]
    pub max_bytes_per_tick: u64,
    /// Raw bytes decoded at once.
    #[serde(deserialize_with = "bytes")]
    pub chunk_bytes: u64,
    /// Threads and shards; the machine's cores without it.
    pub parallelism: Option<usize>,
    /// Key groups of a new checkpoint; fixed for good afterwards.
    pub key_groups: u32,
    /// What state may take.
    #[serde(deserialize_with = "bytes")]
    pub memory: u64,
    /// … and that of one operator.
    #[serde(deserialize_with = "some_bytes")]
    pub operator_memory: Option<u64>,
    /// Rows that a join may make of one row; 0 without a limit.
    pub max_fan_out: u64,
    /// How often tables are compacted and cleaned.
    #[serde(deserialize_with = "duration")]
    pub maintenance_interval: Duration,
    /// Rows staged for outside targets stay for so many epochs after their commit, for `verify --repair`.
    pub keep_staged_epochs: u64,
    /// … but no more than so many bytes of them.
    #[serde(deserialize_with = "bytes")]
    pub keep_staged_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            epoch_interval: Duration::from_secs(10),
            epoch_bytes: 512 << 20,
            max_rows_per_tick: 200_000,
            max_bytes_per_tick: 32 << 20,
            chunk_bytes: 1 << 20,
            parallelism: None,
            key_groups: 128,
            memory: 4 << 30,
            operator_memory: None,
            max_fan_out: 1_000_000,
            maintenance_interval: Duration::from_secs(60),
            keep_staged_epochs: KeepStaged::default().epochs,
            keep_staged_bytes: KeepStaged::default().bytes,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageSettings {
    /// Lake tables: a path or an object-store URL.
    pub lake: String,
    /// Checkpoints: a path or an object-store URL.
    pub checkpoints: String,
    /// How files are compressed: snappy, zstd, zstd(3), lz4.
    pub compression: String,
    /// About how large a file is.
    #[serde(deserialize_with = "bytes")]
    pub target_file_size: u64,
    /// How long files that are no longer part of a table are kept.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self {
            lake: ".watershed/lake".to_owned(),
            checkpoints: ".watershed/checkpoints".to_owned(),
            compression: "snappy".to_owned(),
            target_file_size: 128 << 20,
            retention: Duration::from_secs(7 * 86_400),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeSettings {
    /// Where the API listens. Port 0 takes a free one.
    pub listen: String,
    /// Where Postgres clients are served; nowhere without it.
    pub postgres: Option<String>,
    /// Who may connect there; anybody without them, and then on this machine only.
    pub postgres_users: BTreeMap<String, PostgresUser>,
    /// With it, connections are encrypted.
    pub postgres_tls: Option<PostgresTls>,
    /// Connections at a time.
    pub postgres_max_connections: usize,
    /// How long a statement may take unless its client says otherwise; 0s for no limit.
    #[serde(deserialize_with = "duration")]
    pub postgres_statement_timeout: Duration,
    /// What all statements together may take.
    #[serde(deserialize_with = "bytes")]
    pub postgres_memory: u64,
    /// Who may come in, besides those that `watershed token create` let in.
    pub tokens: Vec<TokenSettings>,
    /// Pages of other origins that may send requests and follow live.
    pub origins: Vec<String>,
    /// Names besides localhost by which a proxy on this machine may ask.
    pub hosts: Vec<String>,
    /// Requests a second and caller.
    pub requests_per_second: std::num::NonZeroU32,
    /// What queries of the API may take together.
    #[serde(deserialize_with = "bytes")]
    pub query_memory: u64,
}

/// A token: its hash, or the environment variable it is in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Who holds it.
    pub name: String,
    /// viewer, operator, admin or ingest.
    pub role: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub hash: Option<String>,
    /// The name of an environment variable.
    pub env: Option<String>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            postgres: None,
            postgres_users: BTreeMap::new(),
            postgres_tls: None,
            postgres_max_connections: 100,
            postgres_statement_timeout: Duration::from_secs(60),
            postgres_memory: 1 << 30,
            tokens: vec![],
            origins: vec![],
            hosts: vec![],
            requests_per_second: std::num::NonZeroU32::MIN.saturating_add(99),
            query_memory: 512 << 20,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// Off: no metric is kept, and no rule over metrics can hold.
    pub metrics: bool,
    /// Where traces of epochs go, such as http://127.0.0.1:4318; OTEL_EXPORTER_OTLP_ENDPOINT without it.
    pub otlp_endpoint: Option<String>,
    /// The share of epochs that are traced, from 0 to 1.
    pub trace_sample: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { metrics: true, otlp_endpoint: None, trace_sample: 1.0 }
    }
}

/// How a Postgres client's password is checked: exactly one of these.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresUser {
    /// The environment variable with the password.
    pub password_env: Option<String>,
    /// `SCRAM-SHA-256$…`, which checks a password and does not give it away.
    pub verifier: Option<String>,
}

/// PEM files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not a duration such as \"10s\"")))
}

fn bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Size {
        Number(u64),
        Text(String),
    }
    match Size::deserialize(deserializer)? {
        Size::Number(number) => Ok(number),
        Size::Text(text) => parse_bytes(&text).ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not a size such as \"512MB\""))),
    }
}

fn some_bytes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

/// Each has memory of its own in every operator.
const MOST_KEY_GROUPS: u32 = 65_536;
/// Far beyond any machine's cores, and below what a machine has threads.
const MOST_THREADS: usize = 1_024;

impl Project {
    /// Reads a project's settings.
    pub fn open(root: &Path) -> Result<Project> {
        let file = root.join("watershed.toml");
        let text = fs::read_to_string(&file).map_err(|e| {
            Error::invalid("CLI0001", format!("\"{}\" is not a project: watershed.toml cannot be read", root.display()))
                .hint("Name the project's folder with --project, or make one with `watershed init DIR --template transactions`.")
                .caused_by(e)
        })?;
        let settings: Settings = toml::from_str(&text).map_err(|e| Error::invalid("CLI0002", format!("\"{}\" is wrong: {e}", file.display())))?;
        let wrong = |message: &str| Err(Error::invalid("CLI0002", format!("\"{}\": {message}", file.display())));
        if settings.engine.key_groups == 0 || settings.engine.parallelism == Some(0) {
            return wrong("[engine] key_groups and parallelism must be at least 1");
        }
        if settings.engine.key_groups > MOST_KEY_GROUPS || settings.engine.parallelism.is_some_and(|threads| threads > MOST_THREADS) {
            return wrong(&format!("[engine] key_groups may be {MOST_KEY_GROUPS} and parallelism {MOST_THREADS} at most"));
        }
        if settings.storage.lake.is_empty() || settings.storage.checkpoints.is_empty() {
            return wrong("[storage] lake and checkpoints name a folder or a URL");
        }
        if settings.checkpoints.backup.as_ref().is_some_and(|backup| backup.every.is_zero() || backup.to.is_empty()) {
            return wrong("[checkpoints.backup] to names a place, and every is above zero");
        }
        let root = root.canonicalize().map_err(|e| Error::invalid("CLI0001", format!("\"{}\" cannot be opened", root.display())).caused_by(e))?;
        Ok(Project { root, settings })
    }

    /// The pipeline's name.
    pub fn name(&self) -> String {
        let folder = || self.root.file_name().map_or_else(|| "project".to_owned(), |n| n.to_string_lossy().into_owned());
        self.settings.name.clone().unwrap_or_else(folder)
    }

    /// The folder for everything that is not the user's.
    pub fn work(&self) -> PathBuf {
        self.root.join(".watershed")
    }

    /// Where the lake is.
    pub fn lake(&self) -> String {
        self.locate(&self.settings.storage.lake)
    }

    fn locate(&self, place: &str) -> String {
        if place.contains("://") { place.to_owned() } else { self.root.join(place).display().to_string() }
    }

    /// Threads and shards.
    pub fn parallelism(&self) -> usize {
        self.settings.engine.parallelism.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, usize::from))
    }

    /// Reads every `.sql` file of the folder, in the order of their names.
    pub fn sql_files(&self) -> Result<Vec<SqlFile>> {
        let unreadable = |e: std::io::Error| Error::invalid("CLI0003", format!("the project's SQL in \"{}\" cannot be read", self.root.display())).caused_by(e);
        let mut paths: Vec<PathBuf> = fs::read_dir(&self.root).map_err(unreadable)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "sql")).collect();
        paths.sort();
        if paths.is_empty() {
            return Err(
                Error::invalid("CLI0003", format!("\"{}\" has no .sql file", self.root.display())).hint("Write CREATE SOURCE and CREATE TABLE statements into pipelines.sql.")
            );
        }
        let mut files = Vec::new();
        for path in paths {
            let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            files.push(SqlFile { name, text: fs::read_to_string(&path).map_err(unreadable)? });
        }
        Ok(files)
    }

    /// What the project's SQL defines.
    pub fn definitions(&self) -> Result<Definitions> {
        parse_project(&self.sql_files()?, &|name| std::env::var(name).ok())
    }

    /// Takes the project for this process. Dropping the result gives it back, and so does the death of the process.
    pub fn lock(&self) -> Result<File> {
        let path = self.work().join("run.lock");
        let fail = |e: std::io::Error| {
            Error::unavailable("CLI0004", format!("cannot write to \"{}\"", self.work().display())).hint("Make the project's folder writable for this user.").caused_by(e)
        };
        fs::create_dir_all(self.work()).map_err(fail)?;
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {
                use std::io::Write;
                file.set_len(0).and_then(|()| writeln!(&file, "{}", std::process::id())).map_err(fail)?;
                Ok(file)
            }
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                Err(Error::conflict("CLI0005", format!("project \"{}\" is running already, as process {}", self.name(), owner.trim()))
                    .hint("Stop that one first (SIGTERM closes its epoch), or look at it with `watershed status`."))
            }
            Err(TryLockError::Error(error)) => Err(fail(error)),
        }
    }
}
