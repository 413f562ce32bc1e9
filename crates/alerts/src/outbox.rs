//! Messages on their way to one route, on disk until they have arrived.
//!
//! ```text
//! push ─▶ outbox/ROUTE/00001767225600000000.json ─ sent ─▶ removed
//!                                                └ refused for good ─▶ failed/ROUTE/
//! ```
//!
//! I1: a message is on disk when [`Outbox::push`] returns, and stays there until its receiver took it. A crash between the
//! two sends it again, with the same id and dedup key: at least once.
//! I2: messages of a route leave in the order they were pushed. Routes do not wait for each other.
//! I3: at most `limit` wait. Of more, one is dropped and counted: the oldest that a later one of the same group makes
//! superfluous, else the oldest.
//! I4: a disk that takes nothing stops no message: it waits in memory then, and the log says so.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use watershed_types::Result;

use crate::files;
use crate::message::Message;

/// Messages kept that no receiver took.
const FAILED_KEPT: usize = 100;

/// A message with its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// The same whenever it is sent.
    pub id: String,
    /// What it says.
    pub message: Message,
}

/// A place in the queue.
#[derive(Debug, Clone)]
struct Place {
    number: u64,
    dedup_key: String,
    /// The letter itself, if it could not be put on disk.
    unwritten: Option<Letter>,
}

/// The messages of a route.
#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    failed: PathBuf,
    route: String,
    limit: usize,
    queue: Mutex<VecDeque<Place>>,
}

/// What [`Outbox::open`] found.
pub struct Opened {
    /// The outbox.
    pub outbox: Outbox,
    /// Messages that are damaged; they were moved to `failed/`.
    pub damaged: Vec<watershed_types::Error>,
}

impl Outbox {
    /// Opens a route's messages in the alerts' folder.
    pub fn open(alerts: &Path, route: &str, limit: usize) -> Result<Opened> {
        let (folder, failed) = (alerts.join("outbox").join(route), alerts.join("failed").join(route));
        files::make_folder(&folder)?;
        let mut queue = VecDeque::new();
        let mut damaged = Vec::new();
        for path in files::list(&folder)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            match (number, files::read::<Letter>(&path)) {
                (Some(number), Ok(Some(letter))) => queue.push_back(Place { number, dedup_key: letter.message.dedup_key, unwritten: None }),
                (_, Ok(None)) => {}
                (None, Ok(Some(_))) => tracing::warn!(file = %path.display(), "this file is no message of ours; it stays where it is"),
                (_, Err(error)) => {
                    files::make_folder(&failed)?;
                    let to = failed.join(path.file_name().unwrap_or_default()).with_extension("damaged");
                    std::fs::rename(&path, &to).map_err(|e| watershed_types::Error::unavailable("ALR0006", format!("cannot move \"{}\"", path.display())).caused_by(e))?;
                    damaged.push(error);
                }
            }
        }
        Ok(Opened { outbox: Outbox { folder, failed, route: route.to_owned(), limit, queue: Mutex::new(queue) }, damaged })
    }

    /// Takes a message; says which one had to go for it, if any.
    pub fn push(&self, message: &Message) -> Result<Option<String>> {
        let letter = Letter { id: uuid::Uuid::now_v7().simple().to_string(), message: message.clone() };
        let mut queue = self.queue.lock();
        let now = u64::try_from(chrono::Utc::now().timestamp_micros()).unwrap_or(0);
        let number = queue.back().map_or(now, |last| now.max(last.number + 1));
        let dedup_key = letter.message.dedup_key.clone();
        let unwritten = match files::write(&self.path(number), &letter) {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(route = self.route, error = %error.report(), "a message waits in memory alone: it would not survive the end of this process");
                Some(letter)
            }
        };
        queue.push_back(Place { number, dedup_key, unwritten });
        if queue.len() <= self.limit {
            return Ok(None);
        }
        let superfluous = queue.iter().enumerate().position(|(at, place)| queue.iter().skip(at + 1).any(|later| later.dedup_key == place.dedup_key));
        let Some(place) = queue.remove(superfluous.unwrap_or(0)) else { return Ok(None) };
        files::remove(&self.path(place.number))?;
        Ok(Some(place.dedup_key))
    }

    /// The message that leaves next.
    pub fn head(&self) -> Result<Option<(u64, Letter)>> {
        loop {
            let Some((number, unwritten)) = self.queue.lock().front().map(|place| (place.number, place.unwritten.clone())) else { return Ok(None) };
            if let Some(letter) = unwritten {
                return Ok(Some((number, letter)));
            }
            match files::read(&self.path(number)) {
                Ok(Some(letter)) => return Ok(Some((number, letter))),
                // Somebody removed it by hand.
                Ok(None) => self.forget(number),
                Err(error) => return Err(error),
            }
        }
    }

    /// It has arrived.
    pub fn done(&self, number: u64) -> Result<()> {
        files::remove(&self.path(number))?;
        self.forget(number);
        Ok(())
    }

    /// Nobody will ever take it: it is kept aside for a person, with the reason.
    pub fn set_aside(&self, number: u64, letter: &Letter, reason: &str) -> Result<()> {
        #[derive(Serialize)]
        struct Failed<'l> {
            reason: &'l str,
            #[serde(flatten)]
            letter: &'l Letter,
        }
        files::make_folder(&self.failed)?;
        files::write(&self.failed.join(format!("{number:020}.json")), &Failed { reason, letter })?;
        let kept = files::list(&self.failed)?;
        for old in kept.iter().take(kept.len().saturating_sub(FAILED_KEPT)) {
            files::remove(old)?;
        }
        self.done(number)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.lock().len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The route.
    pub fn route(&self) -> &str {
        &self.route
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:020}.json"))
    }

    fn forget(&self, number: u64) {
        self.queue.lock().retain(|place| place.number != number);
    }
}
