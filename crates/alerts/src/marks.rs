//! What people say of alerts: silences and acknowledgements, as files of the project's work folder.
//!
//! I1: one file each, made whole and removed whole: the running process and a command line may write at the same time.
//! I2: they survive a restart. A silence ends by itself; an acknowledgement ends with its alert.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use watershed_types::{Error, Result};

use crate::files;
use crate::sample::Labels;

/// No messages of some alerts, until a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Only this alert.
    pub alert: Option<String>,
    /// Only this rule.
    pub rule: Option<String>,
    /// Only alerts with these labels.
    pub labels: Labels,
    /// Until when, microseconds since 1970.
    pub until: i64,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
    /// Since when.
    pub created_at: i64,
}

impl Silence {
    /// True if it is about an alert, now.
    pub fn covers(&self, alert: &str, rule: &str, labels: &Labels, at: i64) -> bool {
        self.until > at
            && self.alert.as_ref().is_none_or(|wanted| wanted == alert)
            && self.rule.as_ref().is_none_or(|wanted| wanted == rule)
            && self.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
    }
}

/// Somebody has an alert in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Which alert.
    pub alert: String,
    /// Who.
    pub by: String,
    /// What they say.
    pub note: String,
    /// When.
    pub at: i64,
}

/// The folder of both.
#[derive(Debug, Clone)]
pub struct Marks {
    silences: PathBuf,
    acknowledgements: PathBuf,
}

/// All there is at a moment.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// Acknowledgements.
    pub acknowledgements: Vec<Acknowledgement>,
}

impl Said {
    /// The longest silence over an alert.
    pub fn silence(&self, alert: &str, rule: &str, labels: &Labels, at: i64) -> Option<&Silence> {
        self.silences.iter().filter(|silence| silence.covers(alert, rule, labels, at)).max_by_key(|silence| silence.until)
    }

    /// The acknowledgement of an alert that fires since a time.
    pub fn acknowledgement(&self, alert: &str, fired: i64) -> Option<&Acknowledgement> {
        self.acknowledgements.iter().find(|ack| ack.alert == alert && ack.at >= fired)
    }
}

impl Marks {
    /// Those of an alerts' folder.
    pub fn of(alerts: &Path) -> Marks {
        Marks { silences: alerts.join("silences"), acknowledgements: alerts.join("acknowledgements") }
    }

    /// Reads all; silences that have ended are removed. What is damaged is left out and said.
    pub fn read(&self, at: i64) -> (Said, Vec<Error>) {
        let (mut said, mut wrong) = (Said::default(), vec![]);
        let (silences, errors) = read_all::<Silence>(&self.silences);
        wrong.extend(errors);
        for (path, silence) in silences {
            if silence.until > at {
                said.silences.push(silence);
            } else if let Err(error) = files::remove(&path) {
                wrong.push(error);
            }
        }
        let (acknowledgements, errors) = read_all::<Acknowledgement>(&self.acknowledgements);
        wrong.extend(errors);
        said.acknowledgements = acknowledgements.into_iter().map(|(_, ack)| ack).collect();
        (said, wrong)
    }

    /// Adds a silence.
    pub fn silence(&self, silence: &Silence) -> Result<()> {
        files::make_folder(&self.silences)?;
        files::write(&self.silences.join(format!("{}.json", silence.id)), silence)
    }

    /// Ends a silence; false if there is none.
    pub fn unsilence(&self, id: &str) -> Result<bool> {
        let Some(path) = files::list(&self.silences)?.into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == id)) else { return Ok(false) };
        files::remove(&path).map(|()| true)
    }

    /// Notes that somebody has an alert in hand.
    pub fn acknowledge(&self, ack: &Acknowledgement) -> Result<()> {
        files::make_folder(&self.acknowledgements)?;
        files::write(&self.acknowledgements.join(format!("{}.json", ack.alert)), ack)
    }

    /// Forgets an acknowledgement, for its alert is over.
    pub fn forget(&self, alert: &str) -> Result<()> {
        files::remove(&self.acknowledgements.join(format!("{alert}.json")))
    }
}

fn read_all<T: serde::de::DeserializeOwned>(folder: &Path) -> (Vec<(PathBuf, T)>, Vec<Error>) {
    let paths = match files::list(folder) {
        Ok(paths) => paths,
        Err(error) => return (vec![], vec![error]),
    };
    let (mut found, mut wrong) = (vec![], vec![]);
    for path in paths {
        match files::read(&path) {
            Ok(Some(value)) => found.push((path, value)),
            Ok(None) => {}
            Err(error) => wrong.push(error),
        }
    }
    (found, wrong)
}
