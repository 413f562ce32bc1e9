//! The target: claims, delivers, recounts, keeps house.
//!
//! **Owns** the order of staging, transaction and removal, and the decision to begin again. **Does not own** the statements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use watershed_ports::{Delivered, History, Recount, Target};
use watershed_types::{Epoch, Generation, Result, failpoint};

use crate::backend::Backend;
use crate::columns::{Columns, qualified};
use crate::error::{Fault, Place, failed, fenced, unclaimed};
use crate::halving::Search;
use crate::ledger::{self, Writer};
use crate::options::{Every, Mode, RedshiftOptions, Via};
use crate::plan::{Delivery, Step, analyze, claim_plan, vacuum};
use crate::staging::{StagedEpoch, Staging};
use crate::table;

/// How often a transaction that others came between is repeated before the engine is told.
const OVERTAKEN: usize = 5;

/// A table in Redshift as a [`Target`].
///
/// All calls block on the given runtime, which must have threads of its own, and so must not come from its threads.
/// Rows of one epoch become visible together.
pub struct RedshiftTarget {
    options: RedshiftOptions,
    place: Place,
    writer: Writer,
    columns: Columns,
    staging: Staging,
    runtime: Handle,
    backend: Mutex<Option<Backend>>,
    /// The database has serializable isolation: sinks take turns in schema `watershed` as a whole.
    alone: AtomicBool,
    housekeeping: Mutex<Housekeeping>,
}

/// What has been done since when.
struct Housekeeping {
    generation: Generation,
    landed: Epoch,
    vacuum: Due,
    analyze: Due,
}

struct Due {
    epochs: u64,
    since: Instant,
}

impl Due {
    fn new() -> Self {
        Self { epochs: 0, since: Instant::now() }
    }
    fn is_due(&self, every: Option<Every>) -> bool {
        match every {
            Some(Every::Epochs(epochs)) => self.epochs >= epochs,
            Some(Every::Time(time)) => self.epochs > 0 && self.since.elapsed() >= time,
            None => false,
        }
    }
}

impl RedshiftTarget {
    /// Makes a target; no network. `app_id` tells two lives of one pipeline apart, `schema` is what the pipeline will deliver.
    /// Errors: `RSH0001` and `RSH0003`, for options and columns that cannot be meant.
    pub fn new(options: RedshiftOptions, app_id: &str, pipeline: &str, schema: SchemaRef, runtime: Handle) -> Result<Self> {
        let columns = Columns::new(&options, &schema)?;
        let place = Place::from(&options);
        let writer = Writer { app_id: app_id.to_owned(), pipeline: pipeline.to_owned(), sink: options.sink.clone() };
        let staging = {
            // The object store's client wants a runtime around it.
            let _entered = runtime.enter();
            Staging::new(&options, &writer, &place)?
        };
        let housekeeping = Mutex::new(Housekeeping { generation: Generation(0), landed: Epoch::ZERO, vacuum: Due::new(), analyze: Due::new() });
        Ok(Self { options, place, writer, columns, staging, runtime, backend: Mutex::new(None), alone: AtomicBool::new(false), housekeeping })
    }

    async fn open(&self) -> Result<Backend> {
        Backend::open(&self.options, &self.place, &self.writer.pipeline, &self.staging, &self.runtime).await
    }

    async fn claim_now(&self, backend: &Backend, generation: Generation) -> Result<Epoch> {
        ledger::make(backend, &self.writer).await?;
        // Fenced first: an older run changes no table.
        for _ in 0..OVERTAKEN {
            match backend.transaction(&claim_plan(&self.writer, generation, self.alone.load(Ordering::Relaxed)), false).await {
                Ok(()) => {
                    table::prepare(backend, &self.place, &self.options, &self.columns).await?;
                    return ledger::last_epoch(backend, &self.place, &self.writer).await;
                }
                Err(Fault::Overtaken(_)) => self.alone.store(true, Ordering::Relaxed),
                Err(Fault::Guard(_)) => return Err(self.not_ours(backend, generation).await?),
                Err(fault) => return Err(fault.into_error(&self.place)),
            }
        }
        Err(failed(&self.place, "other transactions come between again and again"))
    }

    /// The error of a run that does not own the sink.
    async fn not_ours(&self, backend: &Backend, generation: Generation) -> Result<watershed_types::Error> {
        Ok(match ledger::owner(backend, &self.place, &self.writer).await? {
            Some(owner) if owner > generation.0 as i64 => fenced(&self.place, generation, owner),
            Some(owner) if owner == generation.0 as i64 => failed(&self.place, "the sink is ours, and was not a moment ago"),
            _ => unclaimed(&self.place),
        })
    }

    /// What is there of an epoch, as an answer.
    async fn there(&self, backend: &Backend, epoch: Epoch) -> Result<Option<Delivered>> {
        let landed = ledger::look(backend, &self.place, &self.writer, epoch).await?;
        Ok(landed.map(|landed| Delivered { already_there: true, refused: landed.refused }))
    }

    async fn deliver_now(&self, backend: &Backend, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        if let Some(there) = self.there(backend, epoch).await? {
            return Ok(there);
        }
        let columns = table::fitted(backend, &self.place, &self.options, &self.columns).await?;
        let mut staged = self.staging.write(&columns, epoch, generation, rows).await?;
        failpoint::reach("redshift_staged");
        let mut searched = false;
        for _ in 0..OVERTAKEN {
            match backend.transaction(&self.delivery(&columns, epoch, generation, &staged).plan(), true).await {
                Ok(()) => {
                    failpoint::reach("redshift_committed");
                    return Ok(Delivered { already_there: false, refused: staged.refused });
                }
                Err(Fault::Overtaken(words)) => {
                    tracing::debug!(sink = self.place.sink, words, "overtaken; sinks take turns from now on");
                    self.alone.store(true, Ordering::Relaxed);
                }
                // A lost transaction of ours ended while we waited for it.
                Err(Fault::Guard(Step::Epoch)) => {
                    return match self.there(backend, epoch).await? {
                        Some(there) => Ok(there),
                        None => Err(failed(&self.place, "the epoch was there and is gone")),
                    };
                }
                Err(Fault::Guard(_)) => return Err(self.not_ours(backend, generation).await?),
                Err(Fault::Row(words)) if !searched => {
                    searched = true;
                    let search = Search { backend, staging: &self.staging, place: &self.place, options: &self.options, columns: &columns };
                    let refused = search.run(&staged, &words).await?;
                    self.staging.without(&mut staged, &columns, epoch, refused).await?;
                }
                Err(Fault::Row(words)) => return Err(crate::error::blameless(&self.place, &words)),
                Err(Fault::Failed(error)) => return Err(error),
            }
        }
        Err(failed(&self.place, "other transactions come between again and again"))
    }

    fn delivery<'a>(&'a self, columns: &'a Columns, epoch: Epoch, generation: Generation, staged: &'a StagedEpoch) -> Delivery<'a> {
        Delivery {
            options: &self.options,
            writer: &self.writer,
            columns,
            epoch,
            generation,
            manifest: staged.manifest.as_deref(),
            refused_manifest: staged.refused_manifest.as_deref(),
            rows: staged.rows(),
            refused: staged.refused.len() as u64,
            alone: self.alone.load(Ordering::Relaxed),
        }
    }

    /// Removes staged files. They have done their work: a failure is noted and tried again later.
    async fn prune(&self, generation: Generation, landed: Epoch) {
        match self.staging.prune(generation, landed, self.options.retention).await {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(sink = self.place.sink, removed, "staged files removed"),
            Err(error) => tracing::warn!(sink = self.place.sink, error = %error.report(), "staged files stay for now"),
        }
    }

    /// Asks on a connection of its own, if schema `watershed` is there.
    async fn ask(&self) -> Result<Option<Backend>> {
        let backend = self.open().await?;
        Ok(if ledger::there(&backend, &self.writer).await? { Some(backend) } else { None })
    }
}

impl Target for RedshiftTarget {
    fn name(&self) -> &str {
        &self.place.sink
    }

    fn claim(&self, generation: Generation) -> Result<Epoch> {
        let mut guard = self.backend.lock();
        let kept: &mut Option<Backend> = &mut guard;
        *kept = None;
        let (backend, last) = self.runtime.block_on(async {
            let backend = self.open().await?;
            let last = self.claim_now(&backend, generation).await?;
            Ok((backend, last))
        })?;
        *kept = Some(backend);
        let mut housekeeping = self.housekeeping.lock();
        (housekeeping.generation, housekeeping.landed) = (generation, last);
        Ok(last)
    }

    fn last_epoch(&self) -> Result<Epoch> {
        self.runtime.block_on(async {
            match self.ask().await? {
                Some(backend) => ledger::last_epoch(&backend, &self.place, &self.writer).await,
                None => Ok(Epoch::ZERO),
            }
        })
    }

    fn deliver(&self, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        let mut guard = self.backend.lock();
        let kept: &mut Option<Backend> = &mut guard;
        let delivered = self.runtime.block_on(async {
            if !kept.as_ref().is_some_and(Backend::is_open) {
                *kept = Some(self.open().await?);
            }
            let Some(backend) = kept.as_ref() else { return Err(failed(&self.place, "no connection")) };
            let delivered = self.deliver_now(backend, epoch, generation, rows).await?;
            if self.options.retention.is_zero() {
                self.prune(generation, epoch).await;
            }
            Ok(delivered)
        });
        match &delivered {
            Ok(delivered) => {
                let mut housekeeping = self.housekeeping.lock();
                housekeeping.landed = housekeeping.landed.max(epoch);
                if !delivered.already_there {
                    housekeeping.vacuum.epochs += 1;
                    housekeeping.analyze.epochs += 1;
                }
            }
            // A dropped connection rolls back what it had open; the next call opens a new one.
            Err(_) => *kept = None,
        }
        delivered
    }

    fn history(&self) -> Result<History> {
        self.runtime.block_on(async {
            let Some(backend) = self.ask().await? else { return Ok(History { complete: true, ..History::default() }) };
            let epochs = ledger::history(&backend, &self.place, &self.writer).await?;
            let mut rows_now = None;
            if self.options.mode == Mode::Append && !epochs.is_empty() {
                let counted = backend.query(&format!("SELECT count(*) FROM {}", qualified(&self.options))).await?;
                rows_now = counted.first().and_then(|row| row.first()?.as_deref()).map(|text| ledger::number(&self.place, text)).transpose()?;
            }
            Ok(History { epochs, complete: true, rows_now, ..History::default() })
        })
    }

    fn recount(&self, epoch: Epoch) -> Result<Option<Recount>> {
        self.runtime.block_on(async {
            let Some(backend) = self.ask().await? else { return Ok(None) };
            Ok(ledger::look(&backend, &self.place, &self.writer, epoch).await?.map(|landed| Recount { rows: landed.rows }))
        })
    }

    fn maintain(&self) -> Result<()> {
        let (generation, landed, vacuum_due, analyze_due) = {
            let housekeeping = self.housekeeping.lock();
            let (vacuum, analyze) = (housekeeping.vacuum.is_due(self.options.vacuum_every), housekeeping.analyze.is_due(self.options.analyze_every));
            (housekeeping.generation, housekeeping.landed, vacuum, analyze)
        };
        if generation == Generation(0) {
            return Ok(());
        }
        self.runtime.block_on(async {
            if !self.options.retention.is_zero() {
                self.prune(generation, landed).await;
            }
            if !vacuum_due && !analyze_due {
                return Ok(());
            }
            let backend = self.open().await?;
            if vacuum_due {
                backend.alone(&vacuum(&self.options)).await?;
                self.housekeeping.lock().vacuum = Due::new();
            }
            if analyze_due {
                backend.alone(&analyze(&self.options)).await?;
                self.housekeeping.lock().analyze = Due::new();
            }
            Ok(())
        })
    }
}

impl From<&RedshiftOptions> for Place {
    fn from(options: &RedshiftOptions) -> Self {
        let server = match &options.via {
            Via::Wire { url } => crate::options::Address::parse(&options.sink, url.expose()).map(|address| address.shown).unwrap_or_default(),
            Via::DataApi(api) => format!("{}/{}", api.cluster_identifier.as_deref().or(api.workgroup.as_deref()).unwrap_or_default(), api.database),
        };
        let staging = format!("s3://{}/{}", options.bucket, options.prefix);
        Self { sink: options.sink.clone(), table: format!("{}.{}", options.schema, options.table), server, staging }
    }
}
