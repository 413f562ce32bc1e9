//! Rules looked at again and again, beside the pipeline.
//!
//! ```text
//!            metrics ─┐                          ┌─ outbox ─ courier ─▶ route
//!  queries ─▶ answers ┴▶ evaluator ─▶ messages ──┼─ outbox ─ courier ─▶ route
//!  (own thread)           │ every `interval`     └─ …         (a thread each)
//!                         └─▶ memory.json, page.json, Book
//! ```
//!
//! I1: nothing of the pipeline waits for anything here. A slow query delays queries, a slow route its own messages.
//! I2: messages are in their outboxes before the memory says that they were told: a crash between tells them twice.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use watershed_types::{Error, Result};

use crate::book::{Book, Page, folder, now, page_file};
use crate::courier::{Courier, Health, Pauses};
use crate::evaluator::{Evaluator, Memory, Rows, View};
use crate::files;
use crate::marks::{Marks, Said};
use crate::message::{Action, FORMAT, Message, Told};
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::route::{Again, Client};
use crate::rule::{Look, Severity};
use crate::sample::{Labels, Samples, read};

/// Whoever can run a query over the project.
pub trait Ask: Send {
    /// Runs one that only reads. It gives up after `timeout`, and does not take more than it must of the machine.
    fn ask(&self, sql: &str, timeout: Duration) -> Result<Rows>;
}

/// What is needed to look at rules.
pub struct Options {
    /// The project's name.
    pub project: String,
    /// The project's work folder.
    pub work: PathBuf,
    /// Rules and routes.
    pub plan: Plan,
    /// The metrics of this process in Prometheus' text format.
    pub metrics: Box<dyn FnMut() -> String + Send>,
    /// Who runs queries.
    pub ask: Option<Box<dyn Ask>>,
    /// How long to wait after failures.
    pub pauses: Pauses,
}

/// Rules at work.
pub struct Service {
    book: Book,
    couriers: Arc<BTreeMap<String, Courier>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

type Answer = (String, Result<Rows>);

impl Service {
    /// Starts looking.
    pub fn start(options: Options) -> Result<Service> {
        let alerts = folder(&options.work);
        files::make_folder(&alerts)?;
        let mut couriers = BTreeMap::new();
        for (name, route) in &options.plan.routes {
            let opened = Outbox::open(&alerts, name, options.plan.outbox_messages)?;
            for error in opened.damaged {
                tracing::error!(route = name, error = %error.report(), "a message that waited is damaged; it was moved to failed/");
            }
            couriers.insert(name.clone(), Courier::start(opened.outbox, route.target.clone(), options.pauses)?);
        }
        warn_of_orphans(&alerts, &couriers);
        let couriers = Arc::new(couriers);
        let marks = Marks::of(&alerts);
        let (answered, answers) = unbounded();
        if let Some(ask) = options.ask {
            ask_queries(&options.plan, ask, answered)?;
        }
        let memory_file = alerts.join("memory.json");
        let evaluator = Evaluator::new(&options.project, options.plan, remembered(&memory_file));
        let (stop, stopped) = bounded(1);
        let book = Book::new(Page::default(), marks.clone());
        let looking = Looking {
            evaluator,
            metrics: options.metrics,
            answers,
            couriers: Arc::clone(&couriers),
            marks,
            book: book.clone(),
            memory_file,
            page_file: page_file(&alerts),
            page_written: None,
        };
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(move || looking.run(&stopped));
        let thread = thread.map_err(|e| Error::unavailable("ALR0006", "the alerts' thread cannot be started").caused_by(e))?;
        Ok(Service { book, couriers, stop, thread: Some(thread) })
    }

    /// A handle for whoever shows alerts.
    pub fn book(&self) -> Book {
        self.book.clone()
    }

    /// How each route does.
    pub fn routes(&self) -> BTreeMap<String, Health> {
        self.couriers.iter().map(|(name, courier)| (name.clone(), courier.health())).collect()
    }

    /// Looks once more, so that the end of the pipeline is told, and gives messages a moment to leave.
    pub fn finish(mut self, patience: Duration) {
        let until = Instant::now() + patience;
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Ok(couriers) = Arc::try_unwrap(self.couriers) {
            couriers.into_values().for_each(|courier| courier.finish(until));
        }
    }
}

/// Messages of routes that are gone stay where they are, and the log says so.
fn warn_of_orphans(alerts: &std::path::Path, couriers: &BTreeMap<String, Courier>) {
    let Ok(folders) = std::fs::read_dir(alerts.join("outbox")) else { return };
    for folder in folders.flatten().filter(|folder| folder.file_name().to_str().is_none_or(|name| !couriers.contains_key(name))) {
        let waiting = files::list(&folder.path()).map_or(0, |files| files.len());
        if waiting > 0 {
            tracing::warn!(folder = %folder.path().display(), waiting, "messages wait for a route that is not there any more; bring it back, or remove the folder");
        }
    }
}

/// What an earlier process knew. If that is damaged it is moved away: alerts that go on are told once more.
fn remembered(path: &std::path::Path) -> Memory {
    match files::read(path) {
        Ok(memory) => memory.unwrap_or_default(),
        Err(error) => {
            tracing::error!(error = %error.report(), "what alerts were told is not known; it was moved away, and those that go on are told again");
            if let Err(error) = std::fs::rename(path, path.with_extension("damaged")) {
                tracing::error!(%error, "it could not be moved away");
            }
            Memory::default()
        }
    }
}

/// Asks each rule's query when it is due, one at a time. Ends when nobody listens.
fn ask_queries(plan: &Plan, ask: Box<dyn Ask>, answered: Sender<Answer>) -> Result<()> {
    let queries = plan.rules.iter().filter_map(|rule| match &rule.look {
        Look::Query { sql, every, timeout, .. } => Some((Instant::now(), rule.name.clone(), sql.clone(), *every, *timeout)),
        Look::Metrics(_) => None,
    });
    let mut queries: Vec<_> = queries.collect();
    if queries.is_empty() {
        return Ok(());
    }
    let turn = move || {
        // The evaluator drops its end when it stops; until then there is always one that is due next.
        while let Some((due, name, sql, every, timeout)) = queries.iter_mut().min_by_key(|query| query.0) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let answer = ask.ask(sql, *timeout);
            *due = Instant::now() + *every;
            if answered.send((name.clone(), answer)).is_err() {
                return;
            }
        }
    };
    let started = std::thread::Builder::new().name("alert-queries".to_owned()).spawn(turn);
    started.map(drop).map_err(|e| Error::unavailable("ALR0006", "the alerts' thread cannot be started").caused_by(e))
}

struct Looking {
    evaluator: Evaluator,
    metrics: Box<dyn FnMut() -> String + Send>,
    answers: Receiver<Answer>,
    couriers: Arc<BTreeMap<String, Courier>>,
    marks: Marks,
    book: Book,
    memory_file: PathBuf,
    page_file: PathBuf,
    page_written: Option<Error>,
}

impl Looking {
    fn run(mut self, stopped: &Receiver<()>) {
        let interval = self.evaluator.plan.interval;
        let mut next = Instant::now();
        loop {
            self.look();
            next = (next + interval).max(Instant::now());
            match stopped.recv_deadline(next) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.look();
    }

    fn look(&mut self) {
        let at = now();
        let (samples, unreadable) = read(&(self.metrics)());
        if unreadable > 0 {
            tracing::warn!(lines = unreadable, "metrics have lines that cannot be read");
        }
        let samples = Samples::new(samples);
        let (said, wrong) = self.marks.read(at);
        for error in wrong {
            tracing::error!(error = %error.report(), "a silence or an acknowledgement cannot be used");
        }
        let before = self.evaluator.memory().clone();
        let answers: HashMap<String, Result<Rows>> = self.answers.try_iter().collect();
        let looked = self.evaluator.look(View { at, samples: Some(&samples), answers, said: &said });
        for (route, message) in &looked.messages {
            if let Some(courier) = self.couriers.get(route)
                && let Err(error) = courier.take(message)
            {
                tracing::error!(route, error = %error.report(), "a message could not be put aside for its route");
            }
        }
        for id in &looked.resolved {
            if let Err(error) = self.marks.forget(id) {
                tracing::warn!(error = %error.report(), "an acknowledgement could not be removed");
            }
        }
        if *self.evaluator.memory() != before
            && let Err(error) = files::write(&self.memory_file, self.evaluator.memory())
        {
            tracing::error!(error = %error.report(), "what alerts were told could not be written down; after a restart they are told again");
        }
        self.publish(&said, at);
    }

    fn publish(&mut self, said: &Said, at: i64) {
        let page = self.evaluator.page(said, at);
        for severity in Severity::ALL {
            let firing = page.alerts.iter().filter(|alert| alert.severity == severity && alert.fired_at.is_some()).count();
            metrics::gauge!("watershed_alerts_firing", "severity" => severity.to_string()).set(firing as f64);
        }
        // Said once, not at every look.
        let written = files::write_lightly(&self.page_file, &page).err();
        if let (Some(error), None) = (&written, &self.page_written) {
            tracing::error!(error = %error.report(), "`watershed alert list` will not show what is new");
        }
        self.page_written = written;
        self.book.put(page);
    }
}

/// Sends a message of the kind `test` to a route, now.
pub fn send_test(plan: &Plan, project: &str, route: &str) -> Result<()> {
    let Some(known) = plan.routes.get(route) else {
        let names: Vec<&str> = plan.routes.keys().map(String::as_str).collect();
        return Err(Error::invalid("ALR0011", format!("there is no route \"{}\"", route.escape_debug())).hint(format!("Routes: {}.", names.join(", "))));
    };
    let at = now();
    let told = Told {
        id: "test".to_owned(),
        rule: "test".to_owned(),
        severity: Severity::P3,
        labels: Labels::from([("route".to_owned(), route.to_owned())]),
        value: None,
        summary: "a message to see that this route works; nothing is wrong".to_owned(),
        runbook: None,
        since: at,
    };
    let group = Labels::from([("rule".to_owned(), "test".to_owned())]);
    let dedup_key = format!("watershed/{project}/test");
    let message =
        Message { format: FORMAT, action: Action::Test, project: project.to_owned(), dedup_key, at, severity: Severity::P3, group, firing: vec![told], resolved: vec![], more: 0 };
    let client = Client::new()?;
    known.target.send(route, &client, &message, &uuid::Uuid::now_v7().simple().to_string()).map_err(|refused| match refused.again {
        Again::Never => refused.error,
        Again::Later(_) => refused.error.hint("Check the address and the key, and send it again: a test is not kept. Alerts would wait in .watershed/alerts/outbox."),
    })
}
