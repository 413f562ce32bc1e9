//! `watershed checkpoint diagnose`: what is wrong, and what each way out would cost.
//!
//! ```text
//! files ─ look ─▶ troubles, each with its exact mend if there is one ─▶ ways ─▶ a recommendation
//! sinks ─────────────┘
//! ```
//!
//! **Owns** the judgement. **Does not own** the doing, which is `repair`'s. It changes nothing.
//!
//! I1: a way is offered only if what it needs is there: a file for a backup's place in it, a state for an epoch to go
//! back to, a table's log for a table to follow.
//! I2: a mend is exact: it puts back the very file, or one that recovery treats the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tokio::runtime::Runtime;
use watershed_engine::checkpoint::Store;
use watershed_engine::operator::Effect;
use watershed_engine::plan::Plan;
use watershed_engine::run::{Fate, fates};
use watershed_engine::time::timestamp;
use watershed_protocol::{FORMAT, Metadata, Paths, StateFile, seal};
use watershed_types::{Epoch, Error, Result};

use super::look::{Look, Piece};
use super::rebuild;
use crate::adapters::{ProjectAdapters, storage_options};
use crate::arguments::Format;
use crate::orphans;
use crate::output::{count, print, print_json};
use crate::project::Project;
use crate::session::plan;
use crate::system;

/// One step of a repair.
pub enum Act {
    /// Move a file of the checkpoint aside.
    Aside(String),
    /// Write a file of the checkpoint; what is there goes aside first.
    Write(String, Vec<u8>),
    /// Take a table back to an epoch.
    RollBack { table: String, location: String, app_id: String, epoch: u64 },
    /// Move the whole checkpoint aside.
    AsideAll,
    /// Move the lake aside.
    AsideLake,
    /// Copy a whole backup into the checkpoint's place.
    CopyBackup,
}

impl Act {
    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Act::Aside(path) => format!("move {path} aside"),
            Act::Write(path, bytes) => format!("write {path} ({} bytes); what is there is kept aside", bytes.len()),
            Act::RollBack { table, epoch, .. } => format!("take table {table} back to what it held after epoch {epoch}; its files stay"),
            Act::AsideAll => "move the checkpoint aside".to_owned(),
            Act::AsideLake => "move the lake aside".to_owned(),
            Act::CopyBackup => "copy the backup into the checkpoint's place".to_owned(),
        }
    }
}

/// What would set one trouble right.
enum Mend {
    /// These steps, and why they are exact.
    Exact(Vec<Act>, String),
    /// Only an operator's state is affected.
    Operator(String),
    /// Only epochs from this one on are affected.
    From(u64),
    /// Nothing that is known.
    None,
}

/// Something that is wrong.
pub struct Trouble {
    /// A word for programs: damaged, missing, ahead, unfit.
    pub kind: &'static str,
    /// Which file, below the checkpoint.
    pub path: Option<String>,
    /// In words.
    pub message: String,
    mend: Mend,
}

/// A way out.
pub struct Way {
    /// Its name, for `repair --way`.
    pub name: &'static str,
    /// What it does, in a line.
    pub does: String,
    /// What is gone afterwards.
    pub loses: String,
    /// Which rows come again.
    pub repeats: String,
    /// True if nothing is lost and nothing is there twice.
    pub exact: bool,
    /// The steps.
    pub acts: Vec<Act>,
}

/// Everything that was found.
#[derive(Default)]
pub struct Diagnosis {
    pub troubles: Vec<Trouble>,
    /// Worth knowing, and no trouble.
    pub notes: Vec<String>,
    /// The best first.
    pub ways: Vec<Way>,
    /// What to do besides.
    pub advice: Option<String>,
}

/// A sink, and how far it is.
struct Shown {
    name: String,
    epoch: u64,
    /// Where it is and who writes it, if it is a table of the lake.
    table: Option<(String, String)>,
}

struct Doctor<'a> {
    project: &'a Project,
    runtime: &'a Runtime,
    look: Look,
    backup: Option<Look>,
    plan: Option<Plan>,
    id: Option<String>,
    shown: Vec<Shown>,
    found: Diagnosis,
}

/// Looks at a project's checkpoint; `backup` is where pieces may be taken from.
pub fn diagnose(project: &Project, runtime: &Runtime, store: &Store, backup: Option<&Store>) -> Result<Diagnosis> {
    let look = Look::at(store)?;
    let backup = backup.map(Look::at).transpose()?.filter(|backup| !backup.empty());
    let mut doctor = Doctor { project, runtime, look, backup, plan: None, id: None, shown: vec![], found: Diagnosis::default() };
    match plan(project, runtime) {
        Ok(plan) => doctor.plan = Some(plan),
        Err(error) => {
            doctor.found.notes.push(format!("the project cannot be planned, so its state is not compared with its SQL: {}", error.message().lines().next().unwrap_or_default()))
        }
    }
    if doctor.look.empty() {
        doctor.bereaved()?;
        return Ok(doctor.found);
    }
    doctor.identity()?;
    doctor.sinks()?;
    doctor.claims()?;
    doctor.records()?;
    doctor.manifests()?;
    doctor.state()?;
    doctor.ahead();
    doctor.fit();
    doctor.leftovers();
    doctor.ways()?;
    Ok(doctor.found)
}

impl Doctor<'_> {
    fn trouble(&mut self, kind: &'static str, path: impl Into<Option<String>>, message: String, mend: Mend) {
        self.found.troubles.push(Trouble { kind, path: path.into(), message, mend });
    }

    /// The same file in the backup, if it is whole there.
    fn from_backup(&self, path: &str, good: impl Fn(&Look) -> bool) -> Result<Option<Mend>> {
        let Some(backup) = &self.backup else { return Ok(None) };
        let id = |look: &Look| look.metadata.as_ref().and_then(Piece::good).map(|m| m.id.clone());
        // Files of one checkpoint never change, so the backup's is the very file. Another history's is not.
        if id(backup).is_none() || id(&self.look).is_some_and(|mine| id(backup) != Some(mine)) || !good(backup) {
            return Ok(None);
        }
        let bytes = backup.store.get(path)?;
        Ok(bytes.map(|bytes| Mend::Exact(vec![Act::Write(path.to_owned(), bytes)], "the backup has this very file".to_owned())))
    }

    /// No checkpoint: before the first run, or after its loss.
    fn bereaved(&mut self) -> Result<()> {
        let place = self.look.store.describe("");
        let stored: BTreeSet<&str> = self.plan.iter().flat_map(|plan| &plan.tables).filter(|table| table.stored).map(|table| table.name.as_str()).collect();
        let orphans = orphans::written(self.project, self.runtime.handle(), &stored)?;
        if orphans.is_empty() {
            self.found.notes.push(format!("there is no checkpoint at \"{place}\" yet: the project has not run"));
            return Ok(());
        }
        let ids: BTreeSet<&String> = orphans.iter().flat_map(|orphan| &orphan.ids).collect();
        let of_backup = self.backup.as_ref().and_then(|backup| backup.metadata.as_ref()).and_then(Piece::good).map(|metadata| metadata.id.clone());
        self.id = of_backup.filter(|id| ids.contains(id));
        let message = format!("there is no checkpoint at \"{place}\", and the lake has tables that one wrote: {}", orphans::names(&orphans));
        self.trouble("missing", None, message, Mend::None);
        if self.id.is_some() {
            self.sinks()?;
            let way = self.restore()?;
            self.found.ways.extend(way);
        } else {
            self.found.advice = Some("With a backup of that checkpoint (--from PLACE) nothing would be lost, and nothing come twice.".to_owned());
        }
        let fresh = self.fresh();
        self.found.ways.extend(fresh);
        Ok(())
    }

    fn identity(&mut self) -> Result<()> {
        let why = match &self.look.metadata {
            Some(Piece::Good(metadata)) => {
                self.id = Some(metadata.id.clone());
                return Ok(());
            }
            Some(Piece::Bad(why)) => ("damaged", format!("{} is damaged: {why}", Paths::METADATA)),
            None => ("missing", format!("{} is missing, and epochs are there", Paths::METADATA)),
        };
        let known = self.from_backup(Paths::METADATA, |backup| backup.metadata.as_ref().is_some_and(|m| m.good().is_some()))?;
        let mend = match known {
            Some(mend) => {
                self.id = self.backup.as_ref().and_then(|b| b.metadata.as_ref()).and_then(Piece::good).map(|m| m.id.clone());
                mend
            }
            None => match self.id_in_lake()? {
                Some(id) => {
                    let claims = self.look.claims.values().filter_map(Piece::good);
                    let created_at = claims.map(|claim| claim.claimed_at).filter(|at| *at > 0).min().unwrap_or(0);
                    let pipeline = self.look.manifests.values().rev().find_map(Piece::good).map_or_else(|| self.project.name(), |m| m.pipeline.clone());
                    let metadata = Metadata { format: FORMAT, id: id.clone(), pipeline, key_groups: self.project.settings.engine.key_groups, created_at };
                    self.id = Some(id);
                    let how =
                        format!("the id is in the logs of the tables; {} key groups are taken from watershed.toml, which must be what the project began with", metadata.key_groups);
                    Mend::Exact(vec![Act::Write(Paths::METADATA.to_owned(), seal(&metadata)?)], how)
                }
                None => Mend::None,
            },
        };
        self.trouble(why.0, Paths::METADATA.to_owned(), why.1, mend);
        Ok(())
    }

    /// The one id that tables of the lake were written under.
    fn id_in_lake(&self) -> Result<Option<String>> {
        let mut ids = BTreeSet::new();
        for table in system::existing_tables(self.project, self.runtime.handle())? {
            let writers = self.runtime.block_on(watershed_lake::writers(&table.location, &storage_options()))?;
            ids.extend(writers.iter().filter_map(|app| orphans::id_of(app)).map(str::to_owned));
        }
        Ok((ids.len() == 1).then(|| ids.pop_first()).flatten())
    }

    fn sinks(&mut self) -> Result<()> {
        let Some(id) = self.id.clone() else { return Ok(()) };
        for table in system::existing_tables(self.project, self.runtime.handle())? {
            let name = if table.folder == "system" { format!("system.{}", table.name) } else { table.name.clone() };
            let app_id = format!("watershed/{id}/{name}");
            match self.runtime.block_on(watershed_lake::written(&table.location, &storage_options(), &app_id)) {
                Ok(written) => self.shown.push(Shown { name, epoch: written.epoch.map_or(0, |e| e.0), table: Some((table.location, app_id)) }),
                Err(error) => self.found.notes.push(format!("table \"{name}\" cannot be asked how far it is: {error}")),
            }
        }
        let Some(plan) = &self.plan else { return Ok(()) };
        let adapters = ProjectAdapters::new(self.project, self.runtime.handle())?;
        for sink in &plan.sinks {
            let Some(target) = adapters.target(sink, &plan.tables[sink.table], &format!("watershed/{id}/{}", sink.name))? else { continue };
            match std::thread::scope(|scope| scope.spawn(|| target.history()).join()) {
                Ok(Ok(history)) => self.shown.push(Shown { name: sink.name.clone(), epoch: history.epochs.keys().next_back().copied().unwrap_or(0), table: None }),
                Ok(Err(error)) => self.found.notes.push(format!("sink \"{}\" cannot be asked how far it is: {error}", sink.name)),
                Err(_) => self.found.notes.push(format!("sink \"{}\" cannot be asked how far it is: its client panicked", sink.name)),
            }
        }
        Ok(())
    }

    fn claims(&mut self) -> Result<()> {
        let bad: Vec<(u64, String)> = self.look.claims.iter().filter_map(|(n, c)| Some((*n, c.bad()?.to_owned()))).collect();
        for (number, why) in bad {
            let path = Paths::generation(watershed_types::Generation(number));
            let mend = Mend::Exact(vec![Act::Write(path.clone(), rebuild::claim(number)?)], "only its number matters, and that is its name".to_owned());
            self.trouble("damaged", path.clone(), format!("{path} is damaged: {why}"), mend);
        }
        Ok(())
    }

    fn records(&mut self) -> Result<()> {
        let folded: Vec<(String, String)> = self.look.folded.iter().filter_map(|f| Some((f.path.clone(), f.records.bad()?.to_owned()))).collect();
        for (path, why) in folded {
            let whole = |backup: &Look| backup.folded.iter().any(|f| f.path == path && f.records.good().is_some());
            let mend = self.from_backup(&path, whole)?.unwrap_or(Mend::None);
            self.trouble("damaged", path.clone(), format!("{path} is damaged: {why}; it holds the accounts of old epochs"), mend);
        }
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        let outside: BTreeMap<String, String> = self.plan.iter().flat_map(|p| p.sinks.iter().map(|s| (s.name.clone(), p.tables[s.table].name.clone()))).collect();
        for epoch in self.look.folded_to() + 1..=committed {
            let (kind, why) = match self.look.records.get(&epoch) {
                Some(Piece::Good(_)) => continue,
                Some(Piece::Bad(why)) => ("damaged", why.clone()),
                None => ("missing", "it is missing, and later epochs are there".to_owned()),
            };
            let path = Paths::commit(Epoch(epoch));
            let mend = match (self.from_backup(&path, |backup| backup.records.get(&epoch).is_some_and(|r| r.good().is_some()))?, self.look.manifest(epoch)) {
                (Some(mend), _) => mend,
                (None, Some(_)) if epoch == prepared => {
                    Mend::Exact(vec![Act::Aside(path.clone())], format!("the next start finishes epoch {epoch} again: every sink knows it and writes nothing"))
                }
                // Rows may still wait for a sink that is behind, and only the record says so.
                (None, Some(_)) if outside.keys().any(|sink| !self.shown.iter().any(|s| s.name == *sink && s.epoch >= epoch)) => Mend::None,
                (None, Some(manifest)) => {
                    let bytes = rebuild::record(manifest, &|sink| outside.get(sink).cloned())?;
                    Mend::Exact(vec![Act::Write(path.clone(), bytes)], format!("it is made again from the manifest of epoch {epoch}"))
                }
                (None, None) => Mend::None,
            };
            self.trouble(kind, path.clone(), format!("{path}, the commit record of epoch {epoch}: {why}"), mend);
        }
        Ok(())
    }

    fn manifests(&mut self) -> Result<()> {
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        let Some(oldest) = self.look.manifests.keys().next().copied() else {
            if committed > 0 {
                self.trouble("missing", rebuild::offsets(committed), "every manifest is missing: there is nothing to go on from".to_owned(), Mend::None);
            }
            return Ok(());
        };
        for epoch in oldest..=committed.max(prepared) {
            let (kind, why) = match self.look.manifests.get(&epoch) {
                Some(Piece::Good(_)) => continue,
                Some(Piece::Bad(why)) => ("damaged", why.clone()),
                None => ("missing", "it is missing, and the epoch is complete".to_owned()),
            };
            let path = rebuild::offsets(epoch);
            let reached = self.shown.iter().filter(|s| s.epoch >= epoch).count();
            let mend = match self.from_backup(&path, |backup| backup.manifest(epoch).is_some())? {
                Some(mend) => mend,
                None if epoch < committed => {
                    let older = self.look.manifests.keys().filter(|e| **e <= epoch).map(|e| Act::Aside(rebuild::offsets(*e))).collect();
                    Mend::Exact(older, format!("manifests up to epoch {epoch} are history: no start needs them; `checkpoint show` will not have them"))
                }
                None if epoch > committed && reached == 0 && self.id.is_some() => {
                    Mend::Exact(vec![Act::Aside(path.clone())], format!("nothing of epoch {epoch} has reached a sink: its records are read again"))
                }
                None => Mend::From(epoch),
            };
            self.trouble(kind, path.clone(), format!("{path}, the manifest of epoch {epoch}: {why}"), mend);
        }
        Ok(())
    }

    /// The files that a start would load: those of the newest manifest that can be read. What only an older one names may
    /// have been removed.
    fn state(&mut self) -> Result<()> {
        let mut seen = BTreeSet::new();
        let mut wrong: Vec<(String, StateFile, String)> = vec![];
        let newest = [self.look.prepared(), self.look.committed()].into_iter().find_map(|epoch| self.look.manifest(epoch));
        if let Some(manifest) = newest {
            for (operator, state) in &manifest.state {
                for file in state.files.iter().filter(|f| seen.insert(f.path.clone())) {
                    if let Some(why) = self.look.wrong_with(file)? {
                        wrong.push((operator.clone(), file.clone(), why));
                    }
                }
            }
        }
        for (operator, file, why) in wrong {
            let kind = if why == "it is missing" { "missing" } else { "damaged" };
            let whole = |backup: &Look| backup.wrong_with(&file).is_ok_and(|wrong| wrong.is_none());
            let mend = match (self.from_backup(&file.path, whole)?, rebuild::positions(&self.look, &operator, &file)?) {
                (Some(mend), _) => mend,
                (None, Some(bytes)) => {
                    Mend::Exact(vec![Act::Write(file.path.clone(), bytes)], "the manifests say how far each epoch moved; what is made of them has the recorded checksum".to_owned())
                }
                (None, None) if operator.starts_with("source:") => Mend::From(self.look.committed().max(self.look.prepared())),
                (None, None) => Mend::Operator(operator.clone()),
            };
            self.trouble(kind, file.path.clone(), format!("{}, state of \"{operator}\" ({}): {why}", file.path, count(file.rows, "row")), mend);
        }
        self.outbox()
    }

    /// Rows on their way to outside sinks, of an epoch that is not complete.
    fn outbox(&mut self) -> Result<()> {
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        if prepared <= committed {
            return Ok(());
        }
        let Some(manifest) = self.look.manifest(prepared) else { return Ok(()) };
        let files: Vec<(String, StateFile)> = manifest
            .staged
            .iter()
            .flat_map(|(sink, parts)| parts.iter().map(move |part| (sink, part)))
            .filter_map(|(sink, part)| Some((sink, serde_json::from_value::<Vec<StateFile>>(part["payload"]["files"].clone()).ok()?)))
            .flat_map(|(sink, files)| files.into_iter().map(move |file| (sink.clone(), file)))
            .collect();
        for (sink, file) in files {
            let Some(why) = self.look.wrong_with(&file)? else { continue };
            if self.shown.iter().any(|s| s.name == sink && s.epoch >= prepared) {
                self.found.notes.push(format!("{} is not whole, and sink \"{sink}\" has its rows already", file.path));
                continue;
            }
            let reached = self.shown.iter().any(|s| s.epoch >= prepared);
            let mend = if reached || self.id.is_none() {
                Mend::From(prepared)
            } else {
                Mend::Exact(vec![Act::Aside(rebuild::offsets(prepared))], format!("nothing of epoch {prepared} has reached a sink: its records are read again"))
            };
            self.trouble("damaged", file.path.clone(), format!("{}, rows of epoch {prepared} on their way to sink \"{sink}\": {why}", file.path), mend);
        }
        Ok(())
    }

    fn ahead(&mut self) {
        let known = self.look.prepared().max(self.look.committed());
        let ahead: Vec<(String, u64)> = self.shown.iter().filter(|s| s.epoch > known).map(|s| (s.name.clone(), s.epoch)).collect();
        for (name, epoch) in ahead {
            let message = format!("sink \"{name}\" holds epoch {epoch}, and the checkpoint knows only {known}: the checkpoint is older than the sink");
            self.trouble("ahead", None, message, Mend::From(known + 1));
        }
    }

    /// Does the state still fit the SQL?
    fn fit(&mut self) {
        let (Some(plan), Some(manifest)) = (&self.plan, self.look.manifest(self.look.committed())) else { return };
        let unfit: Vec<(String, String, String)> = fates(plan, &manifest.state)
            .into_iter()
            .filter_map(|(id, fate)| match fate {
                Fate::Rebuild { from, changes } => {
                    let words: Vec<String> = changes.into_iter().filter(|change| change.effect == Effect::Breaks).map(|change| change.words).collect();
                    Some((id, from, words.join("; ")))
                }
                _ => None,
            })
            .collect();
        for (id, from, words) in unfit {
            self.found.advice = Some("Undo the change of the SQL if it was not meant: that costs nothing.".to_owned());
            self.trouble("unfit", None, format!("operator \"{id}\" has changed, and its state does not fit it any more: {words}"), Mend::Operator(from));
        }
    }

    fn leftovers(&mut self) {
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        let notes = &mut self.found.notes;
        if prepared > committed {
            notes.push(format!("epoch {prepared} is prepared and not complete: it is being committed, or the next start finishes it"));
        }
        for (folder, names) in [(Paths::STATE, &self.look.state), (Paths::STAGED, &self.look.staged)] {
            let newer = names.iter().filter(|n| Paths::number(n).is_some_and(|epoch| epoch > prepared)).count() as u64;
            if newer > 0 {
                notes.push(format!("{} in {folder}/ belong to an epoch that was never prepared: a run was stopped while it wrote them; they do no harm", count(newer, "file")));
            }
        }
        let prepared_by = self.look.manifests.values().filter_map(Piece::good).map(|m| m.generation.0);
        let newest = prepared_by.chain(self.look.records.values().filter_map(Piece::good).map(|r| r.generation.0)).max().unwrap_or(0);
        let later: Vec<String> = self.look.claims.range(newest + 1..).map(|(n, c)| format!("{n} ({})", c.good().map_or("unreadable", |c| c.owner.as_str()))).collect();
        if later.len() > 1 || (later.len() == 1 && !system::is_running(self.project)) {
            notes.push(format!(
                "later starts prepared no epoch: generation {}; the newest one owns the pipeline, and an older one that still ran would be refused",
                later.join(", ")
            ));
        }
        if !self.look.foreign.is_empty() {
            notes.push(format!("files that are none of ours, and are not read: {}", self.look.foreign.join(", ")));
        }
        if let Some(backup) = &self.backup {
            let taken = backup.manifest(backup.committed()).map(|m| timestamp(m.prepared_at)).unwrap_or_default();
            notes.push(format!("there is a backup at \"{}\" of epoch {} ({taken})", backup.store.describe(""), backup.committed()));
        }
    }

    /// The steps that set right what can be set right exactly, for troubles of epochs below a limit.
    fn exact(&self, below: u64) -> Vec<Act> {
        let mut seen = BTreeSet::new();
        let mut acts = vec![];
        for trouble in &self.found.troubles {
            let Mend::Exact(steps, _) = &trouble.mend else { continue };
            for step in steps {
                let (path, copy) = match step {
                    Act::Aside(path) => (path, Act::Aside(path.clone())),
                    Act::Write(path, bytes) => (path, Act::Write(path.clone(), bytes.clone())),
                    _ => continue,
                };
                let of_epoch = !path.starts_with(Paths::GENERATIONS) && path != Paths::METADATA;
                if (!of_epoch || Paths::number(path).is_none_or(|epoch| epoch < below)) && seen.insert(path.clone()) {
                    acts.push(copy);
                }
            }
        }
        acts
    }

    fn ways(&mut self) -> Result<()> {
        if self.found.troubles.is_empty() {
            return Ok(());
        }
        let all_exact = self.found.troubles.iter().all(|t| matches!(t.mend, Mend::Exact(..)));
        if all_exact {
            let reasons: BTreeSet<&str> = self.found.troubles.iter().filter_map(|t| if let Mend::Exact(_, why) = &t.mend { Some(why.as_str()) } else { None }).collect();
            let does = format!("puts right what is wrong, file by file: {}", reasons.into_iter().collect::<Vec<_>>().join("; "));
            let acts = self.exact(u64::MAX);
            self.found.ways.push(Way { name: "mend", does, loses: "nothing".to_owned(), repeats: "nothing".to_owned(), exact: true, acts });
        }
        if let Some(way) = self.roll_back()? {
            self.found.ways.push(way);
        }
        if let Some(way) = self.reset()? {
            self.found.ways.push(way);
        }
        if let Some(way) = self.restore()? {
            self.found.ways.push(way);
        }
        if let Some(way) = self.fresh() {
            self.found.ways.push(way);
        }
        // An operator that was changed on purpose is not brought back by going back.
        if self.found.troubles.iter().all(|t| t.kind == "unfit") {
            self.found.ways.sort_by_key(|way| way.name != "reset");
        }
        Ok(())
    }

    /// Tables that are further than an epoch; `None` if another sink is, which cannot be taken back.
    fn tables_after(&self, epoch: u64) -> Option<Vec<Act>> {
        let mut acts = vec![];
        for sink in self.shown.iter().filter(|s| s.epoch > epoch) {
            let (location, app_id) = sink.table.clone()?;
            acts.push(Act::RollBack { table: sink.name.clone(), location, app_id, epoch });
        }
        Some(acts)
    }

    /// Back to the newest whole epoch that every sink allows.
    fn roll_back(&self) -> Result<Option<Way>> {
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        let mut limit = committed;
        for trouble in &self.found.troubles {
            match &trouble.mend {
                Mend::Exact(..) => {}
                Mend::Operator(_) if trouble.kind != "unfit" => limit = limit.min(committed.max(prepared).saturating_sub(1)),
                Mend::From(epoch) => limit = limit.min(epoch.saturating_sub(1)),
                Mend::Operator(_) | Mend::None => return Ok(None),
            }
        }
        let candidates: Vec<u64> = self.look.manifests.range(..=limit).rev().map(|(e, _)| *e).collect();
        for epoch in candidates {
            if !self.look.whole(epoch)? {
                continue;
            }
            let Some(tables) = self.tables_after(epoch) else { return Ok(None) };
            let mut acts = self.exact(epoch + 1);
            // Newest first, and the tables last: whatever interrupts it, a start refuses or goes on rightly.
            for later in (epoch + 1..=prepared.max(committed)).rev() {
                for path in [Paths::commit(Epoch(later)), rebuild::offsets(later)] {
                    if self.look.store.read(&path)?.is_some() {
                        acts.push(Act::Aside(path));
                    }
                }
            }
            let behind = prepared.max(committed) - epoch;
            let rows: u64 = self.look.manifests.range(epoch + 1..).filter_map(|(_, m)| m.good()).flat_map(|m| &m.ticks).map(|t| t.records).sum();
            let names = tables.iter().filter_map(|a| if let Act::RollBack { table, .. } = a { Some(table.as_str()) } else { None }).collect::<Vec<_>>().join(", ");
            acts.extend(tables);
            let taken = if names.is_empty() { String::new() } else { format!(", and takes back with it: {names}") };
            let lost = "nothing, as long as the sources still have the records read since: files and topics do, the log of an http source keeps its retention";
            let read = if rows > 0 { format!("about {} are", count(rows, "record")) } else { "the records read since are".to_owned() };
            return Ok(Some(Way {
                name: "rollback",
                does: format!("goes back {} to epoch {epoch}{taken}", count(behind, "epoch")),
                loses: lost.to_owned(),
                repeats: format!("{read} read again; no table holds a row twice. Live sinks (keys, consumers of `live`) see them a second time"),
                exact: true,
                acts,
            }));
        }
        Ok(None)
    }

    /// Some operators begin with nothing.
    fn reset(&self) -> Result<Option<Way>> {
        let mut operators: Vec<String> = vec![];
        for trouble in &self.found.troubles {
            match &trouble.mend {
                Mend::Exact(..) => {}
                Mend::Operator(operator) => operators.push(operator.clone()),
                Mend::From(_) | Mend::None => return Ok(None),
            }
        }
        operators.sort();
        operators.dedup();
        if operators.is_empty() {
            return Ok(None);
        }
        let mut acts = self.exact(u64::MAX);
        let mut rows = 0;
        let (committed, prepared) = (self.look.committed(), self.look.prepared());
        for epoch in if prepared > committed { vec![committed, prepared] } else { vec![committed] } {
            let Some(manifest) = self.look.manifest(epoch) else { return Ok(None) };
            rows = operators.iter().filter_map(|o| manifest.state.get(o)).flat_map(|s| &s.files).map(|f| f.rows).sum::<u64>();
            acts.push(Act::Write(rebuild::offsets(epoch), rebuild::without(manifest, &operators)?));
        }
        let names = operators.join("\", \"");
        Ok(Some(Way {
            name: "reset",
            does: format!("lets \"{names}\" begin with nothing; positions, tables and every other operator stay"),
            loses: format!("what these operators remembered ({}): a window that is open now will hold only the rows that come from now on", count(rows, "row")),
            repeats: "a row that a DEDUPLICATE among them has seen and that comes again within its interval is delivered again".to_owned(),
            exact: false,
            acts,
        }))
    }

    /// A backup as a whole.
    fn restore(&self) -> Result<Option<Way>> {
        let Some(backup) = &self.backup else { return Ok(None) };
        let epoch = backup.committed();
        let same = backup.metadata.as_ref().and_then(Piece::good).is_some_and(|m| self.id.as_ref().is_none_or(|id| *id == m.id));
        if !same || !backup.whole(epoch)? || !self.look.store.is_local() {
            return Ok(None);
        }
        let Some(tables) = self.tables_after(epoch) else { return Ok(None) };
        let mut acts = vec![Act::AsideAll, Act::CopyBackup];
        if backup.prepared() > epoch {
            // It was being committed when the backup was taken; the tables go back before it.
            acts.push(Act::Aside(rebuild::offsets(backup.prepared())));
        }
        acts.extend(tables);
        Ok(Some(Way {
            name: "restore",
            does: format!("brings back the backup of epoch {epoch}, and takes back every table that is newer"),
            loses: "nothing, as long as the sources still have the records read since then".to_owned(),
            repeats: format!("records since epoch {epoch} are read again; no table holds a row twice"),
            exact: true,
            acts,
        }))
    }

    /// Everything anew.
    fn fresh(&self) -> Option<Way> {
        let lake = self.project.lake();
        if !self.look.store.is_local() || lake.contains("://") {
            return None;
        }
        let outside: Vec<&str> = self.plan.iter().flat_map(|p| p.sinks.iter().map(|s| s.name.as_str())).collect();
        let repeats = match outside.is_empty() {
            true => "every record that the sources still have is read again, into new tables".to_owned(),
            false => format!(
                "every record that the sources still have is read again, into new tables; outside sinks ({}) do not recognise them: one with a key overwrites the rows it has, any other holds them twice",
                outside.join(", ")
            ),
        };
        let loses = "records that the sources do not have any more (the tables put aside still hold them), the ledger, and which quarantined rows were replayed".to_owned();
        Some(Way {
            name: "fresh",
            does: "puts checkpoint and lake aside and starts from the sources' beginning".to_owned(),
            loses,
            repeats,
            exact: false,
            acts: vec![Act::AsideAll, Act::AsideLake],
        })
    }
}

/// Prints a diagnosis; exit code 1 if something is wrong.
pub fn report(found: &Diagnosis, format: Format) -> Result<u8> {
    let healthy = found.troubles.is_empty();
    if format != Format::Table {
        print_json(&json!({
            "healthy": healthy,
            "troubles": found.troubles.iter().map(|t| json!({ "kind": t.kind, "file": t.path, "message": t.message })).collect::<Vec<_>>(),
            "notes": found.notes,
            "advice": found.advice,
            "ways": found.ways.iter().enumerate().map(|(at, way)| json!({
                "name": way.name, "recommended": at == 0, "exact": way.exact, "does": way.does, "loses": way.loses, "repeats": way.repeats,
                "steps": way.acts.iter().map(Act::describe).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
        }))?;
        return Ok(u8::from(!healthy));
    }
    let mut text = String::new();
    for trouble in &found.troubles {
        text.push_str(&format!("{:<8} {}\n", trouble.kind, trouble.message));
    }
    for note in &found.notes {
        text.push_str(&format!("note     {note}\n"));
    }
    if healthy {
        text.push_str("\nnothing is wrong\n");
    } else {
        text.push_str(&format!("\n{} of trouble, {} out\n", count(found.troubles.len() as u64, "piece"), count(found.ways.len() as u64, "way")));
        if let Some(advice) = &found.advice {
            text.push_str(&format!("{advice}\n"));
        }
    }
    for (at, way) in found.ways.iter().enumerate() {
        let best = if at == 0 { "  (recommended)" } else { "" };
        text.push_str(&format!("\n{}{best}\n  {}\n  loses:   {}\n  repeats: {}\n", way.name, way.does, way.loses, way.repeats));
    }
    if let Some(way) = found.ways.first() {
        text.push_str(&format!(
            "\n`watershed checkpoint repair --plan` shows the steps; `--yes` takes the recommended way, `--way {}` another one.\n",
            found.ways.get(1).unwrap_or(way).name
        ));
    } else if !healthy {
        text.push_str("\nNothing here leads out. Put the checkpoint and the tables aside by hand, or name a backup with --from.\n");
    }
    print(&text)?;
    Ok(u8::from(!healthy))
}

/// The way of a name; the recommended one without.
pub fn choose(found: Diagnosis, name: Option<&str>) -> Result<Way> {
    let names = found.ways.iter().map(|w| w.name).collect::<Vec<_>>().join(", ");
    let mut ways = found.ways.into_iter();
    let chosen = match name {
        Some(name) => ways.find(|w| w.name == name),
        None => ways.next(),
    };
    chosen.ok_or_else(|| {
        let asked = name.map_or_else(|| "there is no way out that can be taken here".to_owned(), |name| format!("\"{name}\" does not lead out of this"));
        let hint = if names.is_empty() { "Name a backup with --from; `watershed checkpoint diagnose` says what is wrong.".to_owned() } else { format!("Ways: {names}.") };
        Error::invalid("CLI0111", asked).hint(hint)
    })
}
