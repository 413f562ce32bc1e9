//! What real servers do only at unlucky moments: floors that rise and tiers that fail between the standing and the rows.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Int64Type, Schema};
use async_trait::async_trait;

use super::*;

/// A tier in memory with a row for each microsecond from its floor on, up to 100; what happens to it follows a script.
struct Scripted {
    name: Name,
    floor: i64,
    /// What its floor really is by the time rows are read.
    really: i64,
    /// Whether reading rows fails.
    fails: bool,
    asked: AtomicUsize,
}

fn schema() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("at", time, false), Field::new("tier", DataType::Utf8, false)]))
}

impl Scripted {
    fn rows(&self, ids: impl Iterator<Item = i64>, columns: &[usize]) -> RecordBatch {
        let ids: Vec<i64> = ids.filter(|id| *id >= self.really && *id < 100).collect();
        let all: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(ids.clone())),
            Arc::new(TimestampMicrosecondArray::from(ids.clone())),
            Arc::new(StringArray::from(vec![self.name.to_string(); ids.len()])),
        ];
        RecordBatch::try_new(projected(&schema(), columns), columns.iter().map(|place| Arc::clone(&all[*place])).collect()).expect("a batch")
    }
    fn asked<T>(&self, answer: T) -> Result<T> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.fails { Err(Error::unavailable("X0001", "it fell over").hint("Get it up.")) } else { Ok(answer) }
    }
}

#[async_trait]
impl Tier for Scripted {
    fn name(&self) -> Name {
        self.name
    }
    async fn standing(&self, _: &[usize]) -> Result<Standing> {
        Ok(Standing::Whole { floor: self.floor, epoch: 7 })
    }
    async fn by_key(&self, keys: &Keys, columns: &[usize]) -> Result<Rows> {
        let ids: Vec<i64> = keys.columns[0].as_primitive::<Int64Type>().values().to_vec();
        let found = ids.iter().map(|id| *id >= self.really && *id < 100).collect();
        self.asked(Rows { batch: self.rows(ids.into_iter(), columns), found, more: false, risen: None })
    }
    async fn by_time(&self, from: i64, to: i64, limit: usize, columns: &[usize]) -> Result<Rows> {
        let batch = self.rows(from.max(-50)..to.min(100), columns);
        let more = batch.num_rows() > limit;
        self.asked(Rows { batch: batch.slice(0, batch.num_rows().min(limit)), found: vec![], more, risen: (self.really > from).then_some(self.really) })
    }
}

fn tier(name: Name, floor: i64, really: i64, fails: bool) -> Arc<Scripted> {
    Arc::new(Scripted { name, floor, really, fails, asked: AtomicUsize::new(0) })
}

fn table(tiers: &[Arc<Scripted>]) -> TieredTable {
    TieredTable::new("t", schema(), Some(1), vec![0], tiers.iter().map(|tier| Arc::clone(tier) as Arc<dyn Tier>).collect())
}

/// Every id once, in order, and how many came from each tier.
fn checked(answer: &Answer, ids: std::ops::Range<i64>) -> [usize; 3] {
    assert_eq!(answer.batch.column(0).as_primitive::<Int64Type>().values().to_vec(), ids.collect::<Vec<_>>());
    let from = answer.batch.column(2).as_string::<i32>();
    let counts = Name::ALL.map(|name| from.iter().filter(|tier| *tier == Some(name.to_string().as_str())).count());
    assert_eq!(counts, [0, 1, 2].map(|part| answer.parts[part].rows), "the parts say what came from where");
    counts
}

fn range(from: i64, to: i64) -> Request {
    Request { from, to, ..Request::default() }
}

#[tokio::test]
async fn a_floor_that_rises_while_rows_are_read_moves_the_border() {
    let cold = tier(Name::Cold, i64::MIN, i64::MIN, false);
    let tiers = [tier(Name::Hot, 50, 70, false), tier(Name::Warm, 10, 30, false), cold];
    let answer = table(&tiers).read(&range(0, 100)).await.expect("an answer");
    assert_eq!(checked(&answer, 0..100), [30, 40, 30]);
    assert!(tiers[0].asked.load(Ordering::SeqCst) >= 2 && tiers[1].asked.load(Ordering::SeqCst) >= 2, "both had to be asked again");
}

#[tokio::test]
async fn a_tier_that_fails_with_its_rows_is_replaced_and_left_alone_for_a_while() {
    let tiers = [tier(Name::Hot, 50, 50, true), tier(Name::Warm, 10, 10, true), tier(Name::Cold, i64::MIN, i64::MIN, false)];
    let table = table(&tiers);
    let answer = table.read(&range(0, 100)).await.expect("an answer");
    assert_eq!(checked(&answer, 0..100), [0, 0, 100]);
    assert!(matches!(answer.parts[0].standing, Standing::Down { code: "X0001", .. }), "{:?}", answer.parts);
    checked(&table.read(&range(0, 100)).await.expect("an answer"), 0..100);
    assert_eq!((tiers[0].asked.load(Ordering::SeqCst), tiers[1].asked.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test]
async fn a_hole_is_an_error_and_not_an_answer() {
    let tiers = [tier(Name::Hot, 50, 50, false), tier(Name::Cold, i64::MIN, i64::MIN, true)];
    let table = table(&tiers);
    let error = table.read(&range(0, 100)).await.expect_err("nobody has the beginning");
    assert!(error.code() == "TIER0004" && error.message().contains("it fell over"), "{}", error.report());
    assert_eq!(checked(&table.read(&range(50, 100)).await.expect("hot has all of it"), 50..100), [50, 0, 0]);
    let keys = |keys: &[&str]| Request { keys: keys.iter().map(|key| (*key).to_owned()).collect(), ..Request::default() };
    assert_eq!(checked(&table.read(&keys(&["60"])).await.expect("hot has it"), 60..61), [1, 0, 0]);
    assert_eq!(table.read(&keys(&["60", "20"])).await.expect_err("hot has not, and cold is down").code(), "TIER0004");
}

#[tokio::test]
async fn a_limit_takes_the_oldest_and_says_that_there_are_more() {
    let tiers = [tier(Name::Hot, 50, 50, false), tier(Name::Warm, 10, 10, false), tier(Name::Cold, i64::MIN, i64::MIN, false)];
    for (limit, counts, more) in [(5, [0, 0, 5], true), (10, [0, 0, 10], true), (60, [10, 40, 10], true), (100, [50, 40, 10], false)] {
        let answer = table(&tiers).read(&Request { limit, ..range(0, 100) }).await.expect("an answer");
        assert_eq!((checked(&answer, 0..limit as i64), answer.more), (counts, more), "{limit}");
    }
}
