//! Several streams as one.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;

use super::batch::{StreamBatch, Tally};
use super::keeps::Keeps;
use super::relation::{conform, relaxed};
use super::store::StateFiles;
use super::{Fingerprint, Operator, OperatorSpec, Out, Until};

/// What to put together.
pub struct UnionSpec {
    /// The operator's name.
    pub id: String,
    /// It keeps nothing.
    pub fingerprint: Fingerprint,
    /// The columns yielded.
    pub schema: SchemaRef,
}

impl OperatorSpec for UnionSpec {
    fn id(&self) -> &str {
        &self.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
    fn fingerprint_mut(&mut self) -> &mut Fingerprint {
        &mut self.fingerprint
    }
    fn keeps(&self) -> Vec<Keeps> {
        vec![]
    }
    fn describe(&self) -> String {
        "put together".to_owned()
    }
    fn schema(&self) -> SchemaRef {
        relaxed(&self.schema)
    }
    fn build(self: Box<Self>, _: usize) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Union { schema: relaxed(&self.schema), id: self.id, fingerprint: self.fingerprint }))
    }
}

/// The running operator. Rows stay what they are: late where they were late, with the bytes they came from.
struct Union {
    id: String,
    fingerprint: Fingerprint,
    schema: SchemaRef,
}

impl Operator for Union {
    fn id(&self) -> &str {
        &self.id
    }
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
    fn run(&mut self, inputs: Vec<Vec<StreamBatch>>, _: Until, tallies: &mut [Tally]) -> Result<Vec<StreamBatch>> {
        let mut out = Vec::new();
        for (batches, tally) in inputs.into_iter().zip(tallies) {
            for batch in batches {
                tally.absorbed += batch.distinct_rows();
                let rows = conform(&self.schema, batch.batch.columns().to_vec(), batch.batch.num_rows())?;
                out.push(StreamBatch { batch: rows, ..batch });
            }
        }
        Ok(out)
    }
    fn rows(&self) -> u64 {
        0
    }
    fn bytes(&self) -> u64 {
        0
    }
    fn evictions(&self) -> u64 {
        0
    }
    fn snapshot(&mut self, _: bool, _: Out<'_>) -> Result<Option<i64>> {
        Ok(None)
    }
    fn contents(&mut self) -> Result<Vec<RecordBatch>> {
        Ok(vec![])
    }
    fn restore(&mut self, _: &dyn StateFiles, _: Option<i64>, _: i64) -> Result<()> {
        Ok(())
    }
}
