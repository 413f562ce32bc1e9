//! The alerts there are, for whoever shows them, and the way to silence and acknowledge them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use watershed_types::{Error, Result, near_miss};

use crate::files;
use crate::marks::{Acknowledgement, Marks, Silence};
use crate::rule::Severity;
use crate::sample::Labels;
use crate::state::Change;

/// How far an alert has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, but not long enough yet.
    Pending,
    /// It fires.
    Firing,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// An alert. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The same for a rule and its labels, always; fit for a path.
    pub id: String,
    /// Its rule.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// How far it has got.
    pub state: State,
    /// Its labels.
    pub labels: Labels,
    /// The value that was compared, as of the last look.
    pub value: Option<f64>,
    /// What a person reads first.
    pub summary: String,
    /// The page that says what to do.
    pub runbook: Option<String>,
    /// Since when its condition holds.
    pub since: i64,
    /// Since when it fires.
    pub fired_at: Option<i64>,
    /// Until when nobody is told.
    pub silenced_until: Option<i64>,
    /// Who has it in hand.
    pub acked_by: Option<String>,
    /// Since when.
    pub acked_at: Option<i64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: i64,
    /// To which alert.
    pub id: String,
    /// Of which rule.
    pub rule: String,
    /// What.
    pub change: Change,
    /// What a person reads first.
    pub summary: String,
}

/// A rule as others see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuleView {
    /// Its name.
    pub name: String,
    /// How bad it is.
    pub severity: Severity,
    /// Its condition.
    pub condition: String,
    /// The page that says what to do.
    pub runbook: Option<String>,
    /// Why it could not be looked at the last time.
    pub error: Option<String>,
}

/// All of it at a moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// When it was written.
    pub at: i64,
    /// Alerts that pend or fire, the worst first.
    pub alerts: Vec<Alert>,
    /// What happened, the newest first.
    pub history: Vec<Event>,
    /// Every rule.
    pub rules: Vec<RuleView>,
}

/// A handle to the alerts of a project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Book {
    page: Arc<RwLock<Page>>,
    revision: Arc<AtomicU64>,
    marks: Marks,
}

/// Which alerts a silence is about.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// One alert.
    pub alert: Option<String>,
    /// One rule.
    pub rule: Option<String>,
    /// Alerts with these labels.
    pub labels: Labels,
}

/// Where a project's alerts are kept.
pub fn folder(work: &Path) -> PathBuf {
    work.join("alerts")
}

pub(crate) fn page_file(alerts: &Path) -> PathBuf {
    alerts.join("page.json")
}

impl Book {
    pub(crate) fn new(page: Page, marks: Marks) -> Book {
        Book { page: Arc::new(RwLock::new(page)), revision: Arc::new(AtomicU64::new(0)), marks }
    }

    /// Shows what a look came to.
    pub(crate) fn put(&self, page: Page) {
        let mut shown = self.page.write();
        if shown.alerts != page.alerts || shown.history != page.history || shown.rules != page.rules {
            self.revision.fetch_add(1, Ordering::Relaxed);
        }
        *shown = page;
    }

    /// Grows with every change, so that nobody reads what they know.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// What a process wrote down last; for commands that look from outside.
    pub fn open(work: &Path) -> Result<Book> {
        let alerts = folder(work);
        let mut page: Page = files::read(&page_file(&alerts))?.unwrap_or_default();
        let marks = Marks::of(&alerts);
        let now = now();
        let (said, wrong) = marks.read(now);
        if let Some(error) = wrong.into_iter().next() {
            return Err(error);
        }
        mark(&mut page, &said, now);
        Ok(Book::new(page, marks))
    }

    /// The alerts that pend or fire, the worst first.
    pub fn snapshot(&self) -> Vec<Alert> {
        self.page.read().alerts.clone()
    }

    /// What happened lately, the newest first.
    pub fn history(&self) -> Vec<Event> {
        self.page.read().history.clone()
    }

    /// Every rule.
    pub fn rules(&self) -> Vec<RuleView> {
        self.page.read().rules.clone()
    }

    /// When the alerts were last written down.
    pub fn at(&self) -> i64 {
        self.page.read().at
    }

    /// Silences that have not ended.
    pub fn silences(&self) -> Result<Vec<Silence>> {
        let (said, wrong) = self.marks.read(now());
        wrong.into_iter().next().map_or(Ok(said.silences), Err)
    }

    /// No messages of some alerts for a while.
    pub fn silence(&self, scope: Scope, lasting: Duration, by: &str, reason: &str) -> Result<Silence> {
        if scope.alert.is_none() && scope.rule.is_none() && scope.labels.is_empty() {
            return Err(Error::invalid("ALR0011", "a silence over everything is not given").hint("Name an alert, a rule or a label."));
        }
        if scope.labels.keys().any(|label| label.is_empty()) {
            return Err(Error::invalid("ALR0011", "a label without a name").hint("Write NAME=VALUE."));
        }
        if let Some(id) = &scope.alert {
            self.find(id)?;
        }
        if let Some(rule) = &scope.rule {
            self.find_rule(rule)?;
        }
        if lasting.is_zero() {
            return Err(Error::invalid("ALR0011", "the silence would be over before it begins").hint("Say how long, such as 1h."));
        }
        let at = now();
        let id = uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect();
        // No calendar goes further.
        let longest = Duration::from_secs(100 * 366 * 86_400);
        let until = at.saturating_add(i64::try_from(lasting.min(longest).as_micros()).unwrap_or(i64::MAX));
        let silence = Silence { id, alert: scope.alert, rule: scope.rule, labels: scope.labels, until, reason: reason.to_owned(), by: by.to_owned(), created_at: at };
        self.marks.silence(&silence)?;
        self.refresh();
        Ok(silence)
    }

    /// Ends a silence by its id.
    pub fn end_silence(&self, id: &str) -> Result<()> {
        if !self.marks.unsilence(id)? {
            return Err(Error::invalid("ALR0011", format!("there is no silence \"{}\"", id.escape_debug())).hint("`watershed alert silence --list` shows them."));
        }
        self.refresh();
        Ok(())
    }

    /// Ends every silence that was given to one alert alone; says how many.
    pub fn unsilence(&self, alert: &str) -> Result<usize> {
        let own: Vec<Silence> = self.silences()?.into_iter().filter(|silence| silence.alert.as_deref() == Some(alert)).collect();
        for silence in &own {
            self.marks.unsilence(&silence.id)?;
        }
        self.refresh();
        Ok(own.len())
    }

    /// Notes that somebody has an alert in hand: it is not repeated.
    pub fn ack(&self, alert: &str, by: &str, note: &str) -> Result<Alert> {
        self.find(alert)?;
        self.marks.acknowledge(&Acknowledgement { alert: alert.to_owned(), by: by.to_owned(), note: note.to_owned(), at: now() })?;
        self.refresh();
        self.find(alert)
    }

    /// An alert by its id.
    pub fn find(&self, id: &str) -> Result<Alert> {
        let page = self.page.read();
        page.alerts.iter().find(|alert| alert.id == id).cloned().ok_or_else(|| {
            let hint = match near_miss(id, page.alerts.iter().map(|a| a.id.as_str())) {
                Some(near) => format!("Did you mean \"{near}\"?"),
                None => "`watershed alert list` shows those that pend or fire.".to_owned(),
            };
            Error::invalid("ALR0011", format!("there is no alert \"{}\"", id.escape_debug())).hint(hint)
        })
    }

    fn find_rule(&self, name: &str) -> Result<()> {
        let page = self.page.read();
        // Without a page nobody has looked yet, and any rule may be meant.
        if page.rules.is_empty() || page.rules.iter().any(|rule| rule.name == name) {
            return Ok(());
        }
        let hint = match near_miss(name, page.rules.iter().map(|r| r.name.as_str())) {
            Some(near) => format!("Did you mean \"{near}\"?"),
            None => "`watershed alert rules` shows them.".to_owned(),
        };
        Err(Error::invalid("ALR0011", format!("there is no rule \"{}\"", name.escape_debug())).hint(hint))
    }

    fn refresh(&self) {
        let at = now();
        let (said, _) = self.marks.read(at);
        let mut page = self.page.read().clone();
        mark(&mut page, &said, at);
        self.put(page);
    }
}

/// Puts silences and acknowledgements into a page.
pub(crate) fn mark(page: &mut Page, said: &crate::marks::Said, at: i64) {
    for alert in &mut page.alerts {
        alert.silenced_until = said.silence(&alert.id, &alert.rule, &alert.labels, at).map(|silence| silence.until);
        let ack = alert.fired_at.and_then(|fired| said.acknowledgement(&alert.id, fired));
        (alert.acked_by, alert.acked_at) = (ack.map(|a| a.by.clone()), ack.map(|a| a.at));
    }
}

pub(crate) fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
