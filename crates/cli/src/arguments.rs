//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Streams in, trusted tables out.
#[derive(Debug, Parser)]
#[command(name = "watershed", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Arguments {
    /// What to log: error, warn, info, debug, or a filter such as watershed_engine=debug.
    #[arg(long, global = true, default_value = "warn", value_name = "FILTER")]
    pub log: String,
    /// Log lines as JSON.
    #[arg(long, global = true)]
    pub log_json: bool,
    #[command(subcommand)]
    pub command: Command,
}

/// Where the project is.
#[derive(Debug, Clone, Args)]
pub struct ProjectArgument {
    /// The project's folder: watershed.toml and *.sql.
    #[arg(long, short = 'p', default_value = ".", value_name = "DIR", global = true)]
    pub project: PathBuf,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Comma-separated.
    Csv,
    /// For machines: one JSON value, or one a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a project that runs as it is.
    Init(InitArguments),
    /// Run every pipeline and the API until told to stop; SIGTERM and SIGINT close the epoch first.
    Up(UpArguments),
    /// Take all input there is now, commit, exit.
    Run(RunArguments),
    /// Check the project and show what would run; touches nothing.
    Plan(PlanArguments),
    /// Run SQL over tables, the quarantine and system.* tables.
    Query(QueryArguments),
    /// Audit ledger, checkpoint, lake and sinks; exit 1 and a line per discrepancy.
    Verify(VerifyArguments),
    /// Show epoch, rates, lag, watermark, state and quarantine of the pipeline.
    Status(StatusArguments),
    /// Look at the checkpoint store.
    Checkpoint(CheckpointArguments),
    /// Look at rows that were refused, and send them round again.
    Quarantine(QuarantineArguments),
    /// Look at alerts, silence them, and see that their messages arrive.
    Alert(AlertArguments),
    /// Simulated transactions through the whole pipeline, for a first look.
    Demo(DemoArguments),
    /// Send simulated transactions to a Kafka topic, at a rate or as fast as it goes.
    Produce(Box<ProduceArguments>),
    /// Let somebody into the API and the console, and take it back.
    Token(TokenArguments),
    /// Print what an error code means.
    Explain {
        /// Such as LAKE0003.
        code: String,
    },
}

#[derive(Debug, Args)]
pub struct InitArguments {
    /// The folder to make.
    pub directory: PathBuf,
    /// Which project to write.
    #[arg(long, default_value = "transactions", value_name = "NAME")]
    pub template: String,
}

#[derive(Debug, Args)]
pub struct UpArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// Progress as text or as JSON events on stderr.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Start operators that have changed without their state, instead of refusing.
    #[arg(long)]
    pub rebuild: bool,
    /// Where the API listens, instead of [serve] listen.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Where Postgres clients such as psql and BI tools are served, instead of [serve] postgres.
    #[arg(long, value_name = "ADDRESS")]
    pub postgres: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// Take what there is and stop.
    #[arg(long, required = true)]
    pub once: bool,
    /// Close every window at the end.
    #[arg(long = "final")]
    pub finalize: bool,
    /// Start operators that have changed without their state, instead of refusing.
    #[arg(long)]
    pub rebuild: bool,
    /// Progress as text or as JSON events on stderr, and the result as text or JSON on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Events a second.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// Of this source; of every one without it.
    pub source: Option<String>,
    /// How many.
    pub events: f64,
}

fn rate(text: &str) -> Result<Rate, String> {
    let (source, events) = text.rsplit_once('=').map_or((None, text), |(source, events)| (Some(source.to_owned()), events));
    let events = events.replace('_', "").parse::<f64>().ok().filter(|events| events.is_finite() && *events >= 0.0);
    Ok(Rate { source, events: events.ok_or("write a number of events a second, such as 50000, or transactions=50000")? })
}

#[derive(Debug, Args)]
pub struct PlanArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// Events a second, of every source or of one, to estimate the size of state; measured where the pipeline has run.
    #[arg(long, value_name = "[SOURCE=]EVENTS", value_parser = rate)]
    pub rate: Vec<Rate>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct QueryArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// How to print rows.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// The SQL; - reads it from standard input.
    pub sql: String,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// Also read every file's footer and count its rows.
    #[arg(long)]
    pub deep: bool,
    /// Give sinks the epochs they have lost, as far as their rows are kept. Safe while the pipeline runs.
    #[arg(long)]
    pub repair: bool,
    /// How to print findings.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct CheckpointArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    pub format: Format,
    #[command(subcommand)]
    pub action: CheckpointAction,
}

#[derive(Debug, Subcommand)]
pub enum CheckpointAction {
    /// Epochs, their rows and when they were committed.
    List,
    /// One epoch's manifest.
    Show {
        /// The epoch; the newest without it.
        epoch: Option<u64>,
    },
    /// Check every file's checksum and the sequence.
    Verify,
    /// Say what is wrong, and what each way out would lose or repeat. Exit 1 if something is.
    Diagnose {
        /// A backup that pieces may be taken from, a folder or URL; the newest of the schedule without it.
        #[arg(long, value_name = "BACKUP")]
        from: Option<String>,
    },
    /// Copy the checkpoint to another folder or object store.
    Backup {
        /// Where to; where [checkpoints.backup] says without it.
        to: Option<String>,
    },
    /// Bring a backup back; the present checkpoint is moved aside.
    Restore {
        /// Where from, a folder or URL.
        from: String,
    },
    /// Take a way out that `diagnose` shows. What is replaced is kept aside.
    Repair {
        /// Show the steps and do nothing.
        #[arg(long)]
        plan: bool,
        /// Take them.
        #[arg(long, conflicts_with = "plan")]
        yes: bool,
        /// Which way; the recommended one without it.
        #[arg(long, value_name = "NAME")]
        way: Option<String>,
        /// A backup that pieces may be taken from, a folder or URL; the newest of the schedule without it.
        #[arg(long, value_name = "BACKUP")]
        from: Option<String>,
    },
}

#[derive(Debug, Args)]
pub struct QuarantineArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// How to print rows.
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    pub format: Format,
    #[command(subcommand)]
    pub action: QuarantineAction,
}

/// Which quarantined rows.
#[derive(Debug, Clone, Args, Default)]
pub struct QuarantineFilter {
    /// Only rows this table refused.
    #[arg(long)]
    pub table: Option<String>,
    /// Only rows refused for this reason: corrupt, schema, violation, late, sink.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only rows of this epoch.
    #[arg(long)]
    pub epoch: Option<u64>,
    /// Only the row at this position.
    #[arg(long)]
    pub position: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum QuarantineAction {
    /// Refused rows by table and reason.
    List {
        #[command(flatten)]
        filter: QuarantineFilter,
    },
    /// Refused rows with their raw bytes.
    Show {
        #[command(flatten)]
        filter: QuarantineFilter,
        /// At most so many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Send refused rows round again, each once.
    Replay {
        #[command(flatten)]
        filter: QuarantineFilter,
        /// Show what would be replayed, and do nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Args)]
pub struct AlertArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    pub format: Format,
    #[command(subcommand)]
    pub action: AlertAction,
}

#[derive(Debug, Subcommand)]
pub enum AlertAction {
    /// Alerts that pend or fire.
    List {
        /// What happened lately instead.
        #[arg(long)]
        history: bool,
    },
    /// Every rule, its condition and its runbook.
    Rules {
        /// As a rules file of Prometheus.
        #[arg(long)]
        prometheus: bool,
    },
    /// Look at every rule once, now, and say what it finds; nobody is told.
    Check,
    /// Send a message to each route, to see that it arrives.
    Test {
        /// Only to this route.
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
    },
    /// No messages of some alerts for a while.
    Silence(SilenceArguments),
    /// Say that somebody has an alert in hand: it is not repeated.
    Ack {
        /// Its id, from `watershed alert list`.
        id: String,
        /// What to tell the others.
        #[arg(long, default_value = "")]
        note: String,
    },
    /// Print what a default rule means and what to do.
    Runbook {
        /// Such as lag-growing.
        rule: String,
    },
}

#[derive(Debug, Args)]
pub struct SilenceArguments {
    /// Alerts of this rule.
    #[arg(long)]
    pub rule: Option<String>,
    /// One alert, by its id.
    #[arg(long, value_name = "ID")]
    pub alert: Option<String>,
    /// Alerts with this label; several must all fit.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// For how long.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "1h")]
    pub lasting: std::time::Duration,
    /// Why.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Show silences instead.
    #[arg(long, conflicts_with_all = ["rule", "alert", "labels", "end"])]
    pub list: bool,
    /// End a silence instead, by its id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["rule", "alert", "labels"])]
    pub end: Option<String>,
}

fn label(text: &str) -> Result<(String, String), String> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| "give a label as name=value".to_owned())
}

#[derive(Debug, Args)]
pub struct DemoArguments {
    /// How long to send.
    #[arg(long, default_value_t = 20)]
    pub seconds: u64,
    /// Records a second.
    #[arg(long, default_value_t = 10_000)]
    pub rate: u64,
    /// Where to keep the demo's project; a new temporary folder without it.
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// Progress as text or as JSON events.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct ProduceArguments {
    /// Where to connect first: host:port, several with commas.
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: String,
    /// Where records go.
    #[arg(long)]
    pub topic: String,
    /// Records a second; max or 0: as fast as it goes.
    #[arg(long, default_value = "1000", value_parser = watershed_producer::parse_rate)]
    pub rate: watershed_producer::Rate,
    /// End after so many records; without it and --seconds: when stopped.
    #[arg(long)]
    pub records: Option<u64>,
    /// End after so long.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Progress and report as text or as JSON.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Another seed, other records.
    #[arg(long, default_value_t = 42, help_heading = "What is made")]
    pub seed: u64,
    /// How many customers; 20% of them make 80% of the traffic.
    #[arg(long, default_value_t = 100_000, help_heading = "What is made")]
    pub customers: u64,
    /// Share that repeats an earlier record.
    #[arg(long, default_value = "0.01", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "What is made")]
    pub duplicates: f64,
    /// Share that breaks a rule.
    #[arg(long, default_value = "0.005", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "What is made")]
    pub invalid: f64,
    /// Share that cannot be decoded.
    #[arg(long, default_value = "0.002", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "What is made")]
    pub corrupt: f64,
    /// Share that is 15 to 60 minutes behind.
    #[arg(long, default_value = "0.002", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "What is made")]
    pub late: f64,
    /// Share whose event time is behind, by --max-delay at most.
    #[arg(long, default_value = "1", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "What is made")]
    pub disorder: f64,
    /// How far event times are behind at most.
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION", help_heading = "What is made")]
    pub max_delay: std::time::Duration,
    /// Event time of the first record, or now.
    #[arg(long, default_value = "2026-01-01T00:00:00Z", value_parser = watershed_producer::parse_start, value_name = "TIME", help_heading = "What is made")]
    pub start: watershed_producer::Start,
    /// Share of the traffic that a few customers alone make.
    #[arg(long, default_value = "0", value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "Hot keys")]
    pub hot_keys: f64,
    /// How many customers have that share.
    #[arg(long, default_value_t = 1, help_heading = "Hot keys")]
    pub hot_key_count: u64,
    /// Spread each hot key over so many suffixes; reports the skew before and after.
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true, help_heading = "Hot keys")]
    pub salt_hot_keys: u32,
    /// A key is hot from this share of the traffic on; a quarter of a partition's mean without it.
    #[arg(long, value_parser = watershed_producer::parse_share, value_name = "SHARE", help_heading = "Hot keys")]
    pub hot_key_threshold: Option<f64>,
    /// Create the topic if it is missing.
    #[arg(long, help_heading = "Topic")]
    pub create_topic: bool,
    /// Partitions of a topic that is created.
    #[arg(long, value_name = "N", help_heading = "Topic")]
    pub partitions: Option<u32>,
    /// Replicas of a topic that is created.
    #[arg(long, value_name = "N", help_heading = "Topic")]
    pub replication: Option<u32>,
    /// Retries neither repeat nor reorder records.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", help_heading = "Guarantee")]
    pub idempotent: bool,
    /// Send in transactions.
    #[arg(long, help_heading = "Guarantee")]
    pub transactional: bool,
    /// Records of a transaction at most.
    #[arg(long, default_value_t = 100_000, value_name = "N", help_heading = "Guarantee")]
    pub transaction_records: u64,
    /// How long a transaction takes at most.
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "DURATION", help_heading = "Guarantee")]
    pub transaction_interval: std::time::Duration,
    /// Any property of librdkafka by its own name, such as linger.ms=5; wins over everything else.
    #[arg(short = 'X', value_name = "NAME=VALUE", value_parser = watershed_producer::parse_property, help_heading = "librdkafka")]
    pub properties: Vec<(String, String)>,
    /// Threads that make records; 0: the sending thread does.
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "librdkafka")]
    pub generators: usize,
}

#[derive(Debug, Args)]
pub struct TokenArguments {
    #[command(flatten)]
    pub project: ProjectArgument,
    #[command(subcommand)]
    pub action: TokenAction,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token and print it, this once; only its hash is kept.
    Create {
        /// Who holds it.
        #[arg(long)]
        name: String,
        /// viewer reads; operator also replays, silences, audits, sends records; admin everything; ingest only sends records.
        #[arg(long, default_value = "viewer")]
        role: String,
    },
    /// Names and roles.
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Take a token back; a running process stops taking it within a second.
    Revoke {
        /// Who held it.
        #[arg(long)]
        name: String,
    },
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    watershed_types::parse_duration(text).ok_or_else(|| "give a duration such as 500ms or 2s".to_owned())
}
