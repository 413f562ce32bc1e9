//! Delivery of whole epochs, exactly once, in Kafka's own transactions.
//!
//! **Owns** the transaction of an epoch, the mark of the last epoch, and telling apart what surely failed from what may have landed.
//! **Does not own** the epoch's rows, which the engine keeps until they are delivered.
//!
//! I1: rows and mark are in one transaction, so readers with `read_committed` see an epoch when, and only when, its mark is there.
//! I2: whoever claims writes a mark of its own first. A producer that is refused looks at the mark: if it is somebody else's, it
//! has been overtaken, and never starts again; otherwise the brokers have given up its transaction, and it starts anew.
//! I3: a transaction is only begun when the last mark is known.
//!
//! After a crash the next claim makes the brokers abort what was open, or finish what they had begun to commit; then it reads the mark.
//!
//! Non-guarantee: brokers forget a group's offsets after `offsets.retention.minutes` (7 days by default) without a commit. A target
//! that runs renews its mark; one that is stopped for longer than that says that it holds no epoch.

mod mark;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use watershed_ports::{Delivered, KeptEpochs, Recount, Redriven, RefusedRow, Target};
use watershed_types::failpoint::reach;
use watershed_types::{Epoch, Error, Generation, Result};

use crate::client;
use crate::produce::{self, Acks, Context, Producer, Scratch};
use crate::sink_options::KafkaSinkOptions;
use crate::topics;
use crate::trouble;
use mark::{Keeper, Mark};

/// How long a step of a transaction is tried again.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);
/// How long a mark may lag behind the claim that writes it.
const CLAIM_LAG: Duration = Duration::from_secs(1);
/// How old the mark of an idle target may grow.
const RENEWAL: Duration = Duration::from_secs(12 * 3_600);
/// What Kafka adds to a message at most, besides key and value: headers are counted apart.
const OVERHEAD: usize = 512;
/// librdkafka's own limit for a message.
const LARGEST: usize = 1_000_000;

/// A topic that takes whole epochs.
pub struct KafkaTarget {
    options: KafkaSinkOptions,
    transactional_id: String,
    group: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Our claim, once it was made.
    claim: Option<String>,
    generation: Generation,
    live: Option<Live>,
    /// The mark as last read or written; [`None`] if it must be read first.
    mark: Option<Mark>,
    /// The last mark that was surely there: brokers forget one that nobody has renewed for days.
    known: Mark,
    /// When the mark was written last.
    marked_at: Option<Instant>,
    /// Somebody else has claimed the target.
    fenced: bool,
}

struct Live {
    producer: Producer,
    acks: Arc<Acks>,
    group: ConsumerGroupMetadata,
    largest: usize,
}

/// How far a transaction had come when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing can have been committed.
    Before,
    /// The commit was asked for.
    Commit,
}

impl std::fmt::Debug for KafkaTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaTarget").field("options", &self.options).field("transactional_id", &self.transactional_id).finish()
    }
}

impl KafkaTarget {
    /// A target for `app_id`, which identifies project and sink for ever. Reaches no broker before [`Target::claim`].
    pub fn new(options: KafkaSinkOptions, app_id: &str, schema: SchemaRef) -> Result<Self> {
        debug_assert!(options.key.iter().chain(&options.headers).all(|column| *column < schema.fields().len()), "the options were checked against this schema");
        let id = format!("watershed-{}", app_id.replace('/', "-"));
        let target = Self { transactional_id: options.transactional_id.clone().unwrap_or_else(|| id.clone()), group: id, options, state: Mutex::default() };
        client::check(&target.config(LARGEST))?;
        Ok(target)
    }

    fn config(&self, largest: usize) -> ClientConfig {
        let mut connection = self.options.connection.clone();
        connection.default_to("linger.ms", "5");
        let mut config = connection.config();
        config.set("transactional.id", &self.transactional_id).set("enable.idempotence", "true").set("message.max.bytes", largest.to_string());
        config
    }

    fn keeper(&self) -> Result<Keeper> {
        Keeper::new(&self.options.connection, &self.options.topic, &self.group, true)
    }

    /// The mark as far as it is committed, without waiting for a transaction that is open.
    fn glance(&self) -> Result<Mark> {
        Keeper::new(&self.options.connection, &self.options.topic, &self.group, false)?.read()
    }

    /// Our limit, or the topic's if that is smaller, so that brokers refuse nothing that librdkafka took.
    fn largest(&self) -> usize {
        let ours = self.options.connection.property("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(LARGEST);
        let topic = topics::largest_message(&self.options.connection, &self.options.topic).map_or(ours, |limit| limit.saturating_sub(OVERHEAD));
        // librdkafka's smallest.
        ours.min(topic).max(1_000)
    }

    /// A producer that has the transactional id to itself: older ones are fenced, what they left open is aborted.
    fn connect(&self, keeper: &Keeper) -> Result<Live> {
        let largest = self.largest();
        let acks = Arc::<Acks>::default();
        let producer: Producer = client::create(&self.config(largest), Context(Arc::clone(&acks)))?;
        topics::ensure(producer.client(), &self.options, || acks.health.denied())?;
        topics::ask(self.options.connection.brokers(), || acks.health.denied(), |timeout| producer.init_transactions(timeout)).map_err(|error| {
            Error::new(
                error.kind(),
                if error.code() == trouble::UNREACHABLE { trouble::CLAIM } else { error.code() },
                format!("transactions of \"{}\" cannot be started", self.transactional_id),
            )
            .hint(error.next_step().unwrap_or("Check the brokers.").to_owned())
            .caused_by(error)
            .definite()
        })?;
        Ok(Live { producer, acks, group: keeper.group_metadata()?, largest })
    }

    fn overtaken(&self, mark: &Mark) -> Error {
        Error::fenced(trouble::FENCED, format!("another run (generation {}) has taken over topic \"{}\" under \"{}\"", mark.generation, self.options.topic, self.transactional_id))
            .hint("Let the other run work, or stop it before this one is started again.")
            .definite()
    }

    /// Makes sure that there is a producer and that the last mark is known and ours.
    fn ready(&self, state: &mut State) -> Result<()> {
        let Some(claim) = state.claim.clone() else {
            return Err(Error::internal(trouble::CLAIM, format!("sink \"{}\" was not claimed", self.options.name)).definite());
        };
        if !state.fenced && state.live.is_some() && state.mark.is_some() {
            return Ok(());
        }
        let keeper = self.keeper()?;
        let check = |state: &mut State, mark: Result<Mark>| -> Result<Mark> {
            let mark = mark.map_err(Error::definite)?;
            if mark.is_forgotten() && !state.fenced {
                return Ok(state.known.clone());
            }
            if state.fenced || mark.claim != claim {
                state.fenced = true;
                state.live = None;
                return Err(self.overtaken(&mark));
            }
            Ok(mark)
        };
        // SUBTLE: before, so that an overtaken run does not fence the one that overtook it; after, because only then nobody else can write.
        if state.live.is_none() {
            check(state, self.glance())?;
            state.live = Some(self.connect(&keeper).map_err(Error::definite)?);
        }
        let mark = check(state, keeper.read())?;
        state.known = mark.clone();
        state.mark = Some(mark);
        Ok(())
    }

    /// Sends a transaction of nothing but a mark.
    fn write_mark(&self, live: &Live, mark: &Mark) -> Result<(), KafkaError> {
        live.producer.begin_transaction()?;
        persist(|| live.producer.send_offsets_to_transaction(&mark.offsets(&self.options.topic)?, &live.group, TRY))?;
        persist(|| live.producer.commit_transaction(TRY))
    }

    /// What a failed step means. Afterwards the state is such that the next call of `deliver` works, or says that it never will.
    fn failed(&self, state: &mut State, stage: Stage, epoch: Epoch, error: KafkaError) -> Error {
        // Messages of a producer that was fenced fail as purged; the reason is the producer's own.
        let reason = state.live.as_ref().and_then(|live| live.producer.client().fatal_error()).map(|(code, _)| code);
        let code = reason.or(error.rdkafka_error_code());
        let (mut fatal, mut abortable) = (true, false);
        if let KafkaError::Transaction(detail) = &error {
            (fatal, abortable) = (detail.is_fatal(), detail.txn_requires_abort());
        }
        let certain = stage == Stage::Before || abortable;
        state.mark = None;
        if is_fencing(code) {
            state.live = None;
            if let Ok(keeper) = self.keeper() {
                for again in [false, true] {
                    if again {
                        std::thread::sleep(CLAIM_LAG);
                    }
                    let found = keeper.read();
                    if let Ok(mark) = found
                        && !mark.is_forgotten()
                        && state.claim.as_ref() != Some(&mark.claim)
                    {
                        state.fenced = true;
                        return self.overtaken(&mark).caused_by(error);
                    }
                }
            }
        } else if let Some(live) = state.live.take() {
            // What cannot be aborted now is aborted by the next producer's start.
            let alive = reason.is_none() && (!fatal || stage == Stage::Before);
            if alive && certain && persist(|| live.producer.abort_transaction(TRY)).is_ok() {
                live.acks.take_failed();
                state.live = Some(live);
            }
        }
        if let Some(code) = code.filter(|code| trouble::is_denial(*code)) {
            let denied = trouble::denied(self.options.connection.brokers(), &code.to_string());
            return if certain { denied.definite() } else { denied.indefinite() };
        }
        if certain {
            Error::unavailable(trouble::DELIVERY, format!("epoch {epoch} was not delivered to topic \"{}\": {error}", self.options.topic))
                .hint("Nothing of it is visible to readers with read_committed; it is delivered again.")
                .caused_by(error)
                .definite()
        } else {
            Error::unavailable(trouble::UNCERTAIN, format!("the answer to the commit of epoch {epoch} into topic \"{}\" did not come: {error}", self.options.topic))
                .hint("The epoch's mark is read before anything is sent again.")
                .caused_by(error)
                .indefinite()
        }
    }

    /// Sends rows within a transaction. The inner error is librdkafka's.
    fn send(&self, live: &Live, rows: &mut dyn Iterator<Item = Result<RecordBatch>>, sent: &mut u64, refused: &mut Vec<RefusedRow>) -> Result<Result<(), KafkaError>> {
        let mut scratch = Scratch::default();
        let mut row = 0;
        for batch in rows {
            let batch = batch?;
            let until = Instant::now() + PATIENCE;
            let give_up = || live.acks.any_failed() || Instant::now() >= until;
            if let Err(error) = produce::send(&live.producer, &self.options, &batch, row, &mut scratch, refused, give_up)? {
                return Ok(Err(error));
            }
            row += batch.num_rows() as u64;
        }
        *sent = row - refused.len() as u64;
        Ok(Ok(()))
    }

    /// The refusals of an epoch that the target holds.
    fn refused_then(&self, state: &State, mark: &Mark, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Vec<RefusedRow>> {
        if mark.refused.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let limit = state.live.as_ref().map_or(LARGEST, |live| live.largest);
        let (mut refused, mut scratch, mut row) = (Vec::new(), Scratch::default(), 0);
        for batch in rows {
            let batch = batch?;
            produce::too_large(&self.options, &batch, row, limit, &mut scratch, &mut refused)?;
            row += batch.num_rows() as u64;
        }
        // What was written down counts, whatever the limit is now.
        if let Some(written) = &mark.refused {
            let known = std::mem::take(&mut refused);
            let words =
                |row: u64| known.iter().find(|refusal| refusal.row == row).map_or_else(|| RDKafkaErrorCode::MessageSizeTooLarge.to_string(), |refusal| refusal.detail.clone());
            refused = written.iter().map(|row| RefusedRow { row: *row, detail: words(*row) }).collect();
        }
        Ok(refused)
    }
}

/// Tries a step again for as long as that may help.
fn persist(mut step: impl FnMut() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let started = Instant::now();
    loop {
        let error = match step() {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let again = match &error {
            KafkaError::Transaction(detail) => detail.is_retriable(),
            KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
            _ => false,
        };
        if !again || started.elapsed() >= PATIENCE {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The brokers have given the transactional id a newer epoch: another producer's, or because ours was too slow.
fn is_fencing(code: Option<RDKafkaErrorCode>) -> bool {
    use RDKafkaErrorCode as C;
    matches!(code, Some(C::Fenced | C::InvalidProducerEpoch | C::ProducerFenced | C::InvalidProducerIdMapping | C::UnknownProducerId))
}

impl Target for KafkaTarget {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn claim(&self, generation: Generation) -> Result<Epoch> {
        let mut state = self.state.lock();
        *state = State::default();
        let keeper = self.keeper()?;
        let newer = |mark: &Mark| mark.generation > generation;
        let before = self.glance()?;
        if newer(&before) {
            return Err(self.overtaken(&before));
        }
        let live = self.connect(&keeper)?;
        let mut mark = keeper.read()?;
        if newer(&mark) {
            return Err(self.overtaken(&mark));
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let claim = format!("{:x}-{nanos:x}", std::process::id());
        (mark.generation, mark.claim) = (generation, claim.clone());
        if let Err(error) = self.write_mark(&live, &mark) {
            return Err(match is_fencing(error.rdkafka_error_code()) {
                true => self.overtaken(&keeper.read()?).caused_by(error),
                false => Error::unavailable(trouble::CLAIM, format!("transactions of \"{}\" cannot be started: {error}", self.transactional_id))
                    .hint("Check the brokers and the rights on the transactional id and the group.")
                    .caused_by(error)
                    .definite(),
            });
        }
        let epoch = mark.epoch;
        *state = State { claim: Some(claim), generation, live: Some(live), known: mark.clone(), mark: Some(mark), marked_at: Some(Instant::now()), fenced: false };
        Ok(epoch)
    }

    fn last_epoch(&self) -> Result<Epoch> {
        Ok(self.glance()?.epoch)
    }

    fn deliver(&self, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Delivered> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        self.ready(state)?;
        if state.generation != generation {
            return Err(
                Error::internal(trouble::CLAIM, format!("sink \"{}\" was claimed for generation {}, and not for {generation}", self.options.name, state.generation)).definite()
            );
        }
        if let Some(mark) = state.mark.as_ref().filter(|mark| mark.epoch >= epoch) {
            let refused = if mark.epoch == epoch { self.refused_then(state, mark, rows)? } else { Vec::new() };
            return Ok(Delivered { already_there: true, refused });
        }
        let (Some(live), Some(claim)) = (&state.live, state.claim.clone()) else {
            return Err(Error::internal(trouble::CLAIM, format!("sink \"{}\" has no producer", self.options.name)).definite());
        };
        live.acks.take_failed();
        if let Err(error) = live.producer.begin_transaction() {
            return Err(self.failed(state, Stage::Before, epoch, error));
        }
        reach("kafka_begun");
        let (mut sent, mut refused) = (0, Vec::new());
        let outcome = self.send(live, rows, &mut sent, &mut refused);
        let outcome = match outcome {
            Ok(outcome) => outcome.and_then(|()| persist(|| live.producer.flush(TRY))),
            Err(error) => {
                // The rows could not be had: not Kafka's fault.
                self.failed(state, Stage::Before, epoch, KafkaError::Canceled);
                return Err(error);
            }
        };
        reach("kafka_sent");
        let failed = live.acks.take_failed();
        let outcome = match failed.why {
            Some(why) => Err(KafkaError::MessageProduction(why)),
            None => outcome,
        };
        let mark = Mark { epoch, generation, claim, rows: sent, refused: Some(refused.iter().map(|refusal| refusal.row).collect()) };
        let outcome = outcome.and_then(|()| persist(|| live.producer.send_offsets_to_transaction(&mark.offsets(&self.options.topic)?, &live.group, TRY)));
        if let Err(error) = outcome {
            let too_large = failed.why == Some(RDKafkaErrorCode::MessageSizeTooLarge);
            let error = self.failed(state, Stage::Before, epoch, error);
            if too_large {
                // The topic's limit was lowered: the next producer knows it.
                state.live = None;
            }
            return Err(error);
        }
        reach("kafka_marked");
        if let Err(error) = persist(|| live.producer.commit_transaction(TRY)) {
            return Err(self.failed(state, Stage::Commit, epoch, error));
        }
        reach("kafka_committed");
        state.known = mark.clone();
        (state.mark, state.marked_at) = (Some(mark), Some(Instant::now()));
        Ok(Delivered { already_there: false, refused })
    }

    fn maintain(&self) -> Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let (Some(live), Some(mark), Some(at)) = (&state.live, &state.mark, state.marked_at) else { return Ok(()) };
        if at.elapsed() < RENEWAL {
            return Ok(());
        }
        match self.write_mark(live, mark) {
            Ok(()) => state.marked_at = Some(Instant::now()),
            // The next delivery puts it right; until then the old mark serves.
            Err(error) => drop(self.failed(state, Stage::Before, state.known.epoch, error)),
        }
        Ok(())
    }

    /// Only what surely is not in the topic: rows and mark are in one transaction, so an epoch after the mark's is not. It
    /// takes a claim, under the mark's generation, which a run at work would not survive.
    fn redrive(&self, lost: &[Epoch], kept: &dyn KeptEpochs) -> Result<Redriven> {
        let mark = self.glance()?;
        let unsure = |why: String| {
            Error::conflict(trouble::UNSURE, format!("nobody can say whether topic \"{}\" holds what sink \"{}\" has lost: {why}", self.options.topic, self.options.name))
                .hint("Read the topic to find out; rows that are missing can be read again into a fresh project.")
                .definite()
        };
        if mark.is_forgotten() {
            return Err(unsure("the brokers have no mark of it (any more)".to_owned()));
        }
        let mut redriven = Redriven::default();
        let shown = self.claim(mark.generation)?;
        if let Some(passed) = lost.iter().find(|epoch| **epoch < shown) {
            return Err(unsure(format!("its mark is epoch {shown}, which comes after epoch {passed}")));
        }
        for epoch in lost.iter().filter(|epoch| **epoch > shown) {
            let refused: std::collections::HashSet<u64> = kept.refused(*epoch)?.iter().map(|row| row.row).collect();
            let mut first = 0;
            // What was refused then may have come again with a replay.
            let mut rows = kept.rows(*epoch)?.map(|batch| {
                let batch = batch?;
                let keep = (first..first + batch.num_rows() as u64).map(|row| Some(!refused.contains(&row))).collect();
                first += batch.num_rows() as u64;
                arrow::compute::filter_record_batch(&batch, &keep).map_err(|cause| Error::internal(trouble::ENCODE, "kept rows cannot be picked").caused_by(cause))
            });
            self.deliver(*epoch, mark.generation, &mut rows)?;
            redriven.epochs.insert(epoch.0, self.state.lock().known.rows);
        }
        Ok(redriven)
    }

    fn recount(&self, epoch: Epoch) -> Result<Option<Recount>> {
        let mark = self.glance()?;
        Ok((mark.epoch == epoch && epoch != Epoch::ZERO).then_some(Recount { rows: mark.rows }))
    }
}
