//! `watershed init`: a project that runs as it is.
//!
//! **Owns** the templates, which are part of the program. **Does not own** what a project means.

use std::fs;
use std::path::Path;

use watershed_simulator::{Profile, Simulator};
use watershed_types::{Error, Result, near_miss};

use crate::arguments::InitArguments;

const SETTINGS: &str = include_str!("../../templates/settings.toml");

/// A project to start from.
struct Template {
    name: &'static str,
    about: &'static str,
    /// Path in the project, content.
    files: &'static [(&'static str, &'static str)],
    /// What to run, after `cd`.
    next: &'static [&'static str],
}

const TEMPLATES: [Template; 3] = [
    Template {
        name: "transactions",
        about: "card transactions over HTTP: checks, deduplication, windows, a join",
        files: &[
            ("pipelines.sql", include_str!("../../templates/transactions/pipelines.sql")),
            ("README.md", include_str!("../../templates/transactions/README.md")),
            ("data/categories.csv", include_str!("../../templates/transactions/data/categories.csv")),
        ],
        next: &[
            "watershed up                      # in a terminal of its own",
            "curl -X POST --data-binary @data/sample.ndjson http://127.0.0.1:8080/v1/ingest/transactions",
            "watershed query \"SELECT * FROM per_minute ORDER BY window_start, status LIMIT 10\"",
            "watershed quarantine list",
            "watershed verify",
        ],
    },
    Template {
        name: "files",
        about: "a folder of NDJSON files into a lake table, and a sum by the hour",
        files: &[
            ("pipelines.sql", include_str!("../../templates/files/pipelines.sql")),
            ("README.md", include_str!("../../templates/files/README.md")),
            ("data/readings-1.ndjson", include_str!("../../templates/files/data/readings-1.ndjson")),
        ],
        next: &["watershed run --once", "watershed query \"SELECT * FROM hourly ORDER BY window_start, sensor\"", "watershed quarantine list"],
    },
    Template {
        name: "blank",
        about: "one source and one table, to put your own in place of",
        files: &[("pipelines.sql", include_str!("../../templates/blank/pipelines.sql")), ("README.md", include_str!("../../templates/blank/README.md"))],
        next: &[
            "watershed up                      # in a terminal of its own",
            "curl -X POST --data-binary '{\"id\": \"1\"}' http://127.0.0.1:8080/v1/ingest/events",
            "watershed query \"SELECT * FROM received\"",
        ],
    },
];

/// Records of `data/sample.ndjson`, and the minutes of event time they span.
const SAMPLE: (u64, i64) = (2_000, 20);

/// Runs the command.
pub fn run(arguments: InitArguments) -> Result<u8> {
    let template = find(&arguments.template)?;
    write(template, &arguments.directory)?;
    println!("made \"{}\" from the template {}:", arguments.directory.display(), template.name);
    println!("  {}", template.about);
    println!();
    println!("next:");
    println!("  cd {}", quoted(&arguments.directory));
    for line in template.next {
        println!("  {line}");
    }
    Ok(0)
}

/// Writes the transactions template, for the demo.
pub fn write_transactions(directory: &Path) -> Result<()> {
    write(&TEMPLATES[0], directory)
}

fn find(name: &str) -> Result<&'static Template> {
    if let Some(template) = TEMPLATES.iter().find(|t| t.name == name) {
        return Ok(template);
    }
    let known = TEMPLATES.iter().map(|t| format!("{} ({})", t.name, t.about)).collect::<Vec<_>>().join("; ");
    let near = near_miss(name, TEMPLATES.iter().map(|t| t.name)).map_or_else(String::new, |near| format!("Did you mean {near}? "));
    Err(Error::invalid("CLI0020", format!("there is no template \"{name}\"")).hint(format!("{near}Templates: {known}.")))
}

fn write(template: &Template, directory: &Path) -> Result<()> {
    let fail =
        |e: std::io::Error| Error::unavailable("CLI0022", format!("cannot write to \"{}\"", directory.display())).hint("Choose a folder that this user may write to.").caused_by(e);
    if directory.exists() && !directory.is_dir() {
        return Err(Error::conflict("CLI0021", format!("\"{}\" is a file", directory.display())).hint("Name a new or an empty folder."));
    }
    if directory.is_dir() && fs::read_dir(directory).map_err(fail)?.next().is_some() {
        return Err(Error::conflict("CLI0021", format!("folder \"{}\" is not empty", directory.display())).hint("Name a new or an empty folder; nothing is ever overwritten."));
    }
    fs::create_dir_all(directory).map_err(fail)?;
    let absolute = directory.canonicalize().map_err(fail)?;
    let project = absolute.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned());
    let settings = [("watershed.toml", SETTINGS), (".gitignore", ".watershed/\n")];
    for (path, content) in settings.iter().chain(template.files) {
        let target = directory.join(path);
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(fail)?;
        }
        fs::write(&target, content.replace("{{project}}", &project)).map_err(fail)?;
    }
    if template.name == "transactions" {
        fs::write(directory.join("data/sample.ndjson"), sample()).map_err(fail)?;
    }
    Ok(())
}

/// Simulated records that end now, so that the minutes they complete show at once.
fn sample() -> Vec<u8> {
    let (records, minutes) = SAMPLE;
    let start_micros = chrono::Utc::now().timestamp_micros() - minutes * 60_000_000;
    let events_per_second = records as f64 / (minutes * 60) as f64;
    let simulator = Simulator::new(Profile { start_micros, events_per_second, ..Profile::default() });
    let mut bytes = Vec::with_capacity(records as usize * 360);
    for index in 0..records {
        simulator.record(index, None, &mut bytes);
        bytes.push(b'\n');
    }
    bytes
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_alphanumeric() || "/._-~+=@,".contains(c));
    if plain && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
