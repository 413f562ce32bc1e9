//! A project in a temporary folder, the binary run on it, and what it left behind.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use datafusion::prelude::{SessionConfig, SessionContext};
use tempfile::TempDir;
use watershed_engine::checkpoint::{Checkpoint, Store};
use watershed_protocol::Account;

/// Ample for any run here; a hang is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(120);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// The binary under test; `WATERSHED_BIN` names another one.
pub fn binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_watershed").map(PathBuf::from);
    std::env::var_os("WATERSHED_BIN").map(PathBuf::from).or(built).expect("cargo names the binary")
}

/// How a run is cut into chunks, ticks, epochs and threads.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub parallelism: usize,
    pub rows_per_tick: u64,
    pub epoch_bytes: u64,
}

impl Cut {
    /// As a user runs it.
    pub const PLAIN: Cut = Cut { parallelism: 2, rows_per_tick: 200_000, epoch_bytes: 512 << 20 };
    /// Many small ticks and epochs.
    pub const fn tiny(parallelism: usize) -> Cut {
        Cut { parallelism, rows_per_tick: 7, epoch_bytes: 8 << 10 }
    }
}

/// A project's folder.
pub struct Project {
    folder: TempDir,
}

/// What a finished process said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// True if a fail point ended it.
    pub fn died_at_failpoint(&self) -> bool {
        self.code.is_none() && self.stderr.contains("failpoint")
    }
    /// Fails the test unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> Ran {
        assert_eq!(self.code, Some(0), "the run failed:\n{}\n{}", self.stdout, self.stderr);
        self
    }
    /// Fails the test unless it exited with 1 and said all of this.
    #[track_caller]
    pub fn refused(self, words: &[&str]) -> Ran {
        assert_eq!(self.code, Some(1), "exit 1 was expected:\n{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "the error does not say {word:?}:\n{}", self.stderr);
        }
        self
    }
}

/// What a project holds: the same for every way of running it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Held {
    /// Each table's rows as JSON, sorted.
    pub tables: BTreeMap<String, Vec<String>>,
    /// Totals by table and input.
    pub ledger: BTreeMap<String, Account>,
    /// Refused rows without epoch and clock, sorted.
    pub quarantine: Vec<String>,
}

impl Project {
    pub fn new(sql: &str) -> Project {
        let base = std::env::var_os("WATERSHED_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new().prefix("ws-it-").tempdir_in(base).expect("a temporary folder");
        let project = Project { folder };
        project.write("pipelines.sql", sql);
        project.cut(Cut::PLAIN);
        project
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("a file");
    }

    pub fn cut(&self, cut: Cut) {
        self.write(
            "watershed.toml",
            format!(
                "name = \"p\"\n[engine]\nparallelism = {}\nmax_rows_per_tick = {}\nchunk_bytes = \"{}\"\nepoch_bytes = {}\n",
                cut.parallelism,
                cut.rows_per_tick,
                if cut.rows_per_tick < 100 { "4KB" } else { "256KB" },
                cut.epoch_bytes
            ),
        );
    }

    fn command(&self, arguments: &[&str], failpoint: Option<&str>) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--project").arg(self.folder.path()).env_remove("WATERSHED_FAILPOINT");
        command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(place) = failpoint {
            command.env("WATERSHED_FAILPOINT", place);
        }
        command
    }

    /// Starts a command and leaves it running, its output thrown away.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments, None).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }

    /// Starts a command and keeps its output.
    pub fn spawn_piped(&self, arguments: &[&str]) -> Child {
        self.command(arguments, None).spawn().expect("the binary starts")
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments, None).spawn().expect("the binary starts"))
    }

    /// All input there is.
    pub fn once(&self) -> Ran {
        self.run(&["run", "--once"])
    }

    /// All input there is, and every window.
    pub fn to_the_end(&self) -> Ran {
        self.run(&["run", "--once", "--final"])
    }

    /// All input there is, killed at a fail point.
    pub fn once_but(&self, failpoint: &str) -> Ran {
        finish(self.command(&["run", "--once"], Some(failpoint)).spawn().expect("the binary starts"))
    }

    pub fn to_the_end_but(&self, failpoint: &str) -> Ran {
        finish(self.command(&["run", "--once", "--final"], Some(failpoint)).spawn().expect("the binary starts"))
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(Store::Local(self.path(".watershed/checkpoints"))).expect("a good checkpoint").expect("a checkpoint")
    }

    /// The rows of SQL over the lake's tables and `quarantine`, as sorted JSON lines.
    pub fn query(&self, sql: &str) -> Vec<String> {
        RUNTIME.block_on(async {
            let mut config = SessionConfig::new().with_target_partitions(1);
            config.options_mut().execution.collect_statistics = false;
            let context = SessionContext::new_with_config(config);
            for (name, place) in self.tables() {
                let table = watershed_lake::table_provider(&place.display().to_string(), &HashMap::new()).await.expect("a readable table");
                context.register_table(name.as_str(), table).expect("a name of its own");
            }
            let batches = context.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await.unwrap_or_else(|e| panic!("{sql}: {e}"));
            let mut rows: Vec<String> = Vec::new();
            for batch in &batches {
                rows.extend((0..batch.num_rows()).map(|row| tidy(&watershed_engine::json::row_as_json(batch, row))));
            }
            rows.sort();
            rows
        })
    }

    /// One number.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.query(&format!("SELECT CAST(n AS BIGINT) AS n FROM ({sql}) AS q(n)"));
        let row: serde_json::Value = serde_json::from_str(rows.first().expect("a row")).expect("JSON");
        row["n"].as_i64().unwrap_or_else(|| panic!("{sql}: {rows:?}"))
    }

    fn tables(&self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        for zone in ["bronze", "silver", "gold", "system"] {
            let Ok(entries) = fs::read_dir(self.path(&format!(".watershed/lake/{zone}"))) else { continue };
            for entry in entries.flatten().filter(|e| e.path().join("_delta_log").is_dir()) {
                found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        found.sort();
        found
    }

    /// Where a table is.
    pub fn table(&self, name: &str) -> PathBuf {
        self.tables().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no table {name}")).1
    }

    /// The ledger's totals.
    pub fn ledger(&self) -> BTreeMap<String, Account> {
        let mut totals: BTreeMap<String, Account> = BTreeMap::new();
        for row in self.checkpoint().ledger().expect("a readable ledger") {
            assert!(row.account.balances(), "epoch {} of {} does not balance: {:?}", row.epoch, row.table_name, row.account);
            totals.entry(format!("{} <- {}", row.table_name, row.source)).or_default().add(&row.account);
        }
        totals
    }

    /// Everything it holds.
    pub fn held(&self) -> Held {
        let tables = self.tables();
        let tables = tables.iter().filter(|(name, _)| name != "quarantine").map(|(name, _)| (name.clone(), self.query(&format!("SELECT * FROM \"{name}\"")))).collect();
        let quarantine = self.query("SELECT table_name, source, partition, position, reason, detail, encode(raw, 'hex') AS raw, event_time FROM quarantine");
        Held { tables, ledger: self.ledger(), quarantine }
    }
}

/// Floats are compared to nine digits: their last bits depend on the order of merging, and only theirs.
fn tidy(row: &str) -> String {
    fn walk(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Number(n) if n.is_f64() => serde_json::Value::String(format!("{:.9e}", n.as_f64().expect("a float"))),
            serde_json::Value::Array(items) => serde_json::Value::Array(items.into_iter().map(walk).collect()),
            serde_json::Value::Object(fields) => serde_json::Value::Object(fields.into_iter().map(|(k, v)| (k, walk(v))).collect()),
            other => other,
        }
    }
    walk(serde_json::from_str(row).expect("a row is JSON")).to_string()
}

/// Waits for a process, and for its output.
pub fn finish(child: Child) -> Ran {
    let id = child.id();
    let started = Instant::now();
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = done.send(child.wait_with_output());
    });
    let output = match waiting.recv_timeout(PATIENCE) {
        Ok(output) => output.expect("its output"),
        Err(_) => {
            signal(id, "KILL");
            panic!("process {id} did not end within {:?}", started.elapsed());
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

pub fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status().expect("kill is there");
    let _ = sent;
}

/// Fails with the first difference, not with both walls of text.
#[track_caller]
pub fn same(found: &Held, expected: &Held, what: &str) {
    assert_eq!(found.ledger, expected.ledger, "{what}: the ledger differs");
    let names = |held: &Held| held.tables.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}: the tables differ");
    let sets = found.tables.iter().map(|(name, rows)| (name.as_str(), rows, &expected.tables[name]));
    for (name, rows, wanted) in sets.chain([("quarantine", &found.quarantine, &expected.quarantine)]) {
        same_rows(rows, wanted, &format!("{what}: {name}"));
    }
}

#[track_caller]
pub fn same_rows(found: &[String], expected: &[String], what: &str) {
    if found == expected {
        return;
    }
    let less = |a: &[String], b: &[String]| {
        let mut rest: HashMap<&String, i64> = HashMap::new();
        b.iter().for_each(|row| *rest.entry(row).or_default() += 1);
        a.iter()
            .filter(|row| {
                let left = rest.entry(row).or_default();
                *left -= 1;
                *left < 0
            })
            .take(5)
            .cloned()
            .collect::<Vec<_>>()
    };
    panic!("{what}: {} rows, {} expected\ntoo many: {:#?}\nmissing: {:#?}", found.len(), expected.len(), less(found, expected), less(expected, found));
}

/// Every file below a folder with its bytes, so that "nothing changed" can be said.
pub fn bytes_below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![folder.to_path_buf()];
    while let Some(at) = waiting.pop() {
        for entry in fs::read_dir(&at).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                all.insert(path.clone(), fs::read(&path).expect("a file"));
            }
        }
    }
    all
}

/// Many values from one number, the same every time.
pub struct Dice(u64);

impl Dice {
    /// `WATERSHED_SEED` repeats a run.
    pub fn new(default: u64) -> Dice {
        let seed = std::env::var("WATERSHED_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
        println!("seed {seed} (WATERSHED_SEED repeats it)");
        Dice(seed)
    }
    /// Always the same values.
    pub fn fixed(seed: u64) -> Dice {
        Dice(seed)
    }
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}
