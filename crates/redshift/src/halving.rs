//! Which rows a load fails for: trial loads of halves find them.
//!
//! **Owns** the search. **Does not own** the verdict whether Redshift blames a row: that is [`crate::error`].
//!
//! Redshift stops at the first row it refuses and does not surely say which one it was: a Parquet file has no lines. A row is
//! refused only after it was refused alone. A trial loads into temporary tables, so it leaves nothing and may be repeated.

use std::ops::Range;

use watershed_ports::RefusedRow;
use watershed_types::Result;

use crate::backend::Backend;
use crate::columns::Columns;
use crate::error::{Fault, Place, blameless, too_many_probes, unfit_rows};
use crate::ledger::literal;
use crate::options::RedshiftOptions;
use crate::plan::trial_plan;
use crate::staging::{StagedEpoch, Staging, shortened};

/// How often a trial that was overtaken is repeated.
const OVERTAKEN: usize = 5;

pub(crate) struct Search<'a> {
    pub backend: &'a Backend,
    pub staging: &'a Staging,
    pub place: &'a Place,
    pub options: &'a RedshiftOptions,
    pub columns: &'a Columns,
}

/// Rows of a part, and whether one of them is surely to blame.
struct Piece {
    rows: Range<usize>,
    /// The other half had this many refused rows before it: if it has no more now, this one has one.
    refused_before: Option<usize>,
}

impl Search<'_> {
    /// The rows to blame. `words` are those of the load that failed.
    pub async fn run(&self, staged: &StagedEpoch, words: &str) -> Result<Vec<RefusedRow>> {
        let mut refused: Vec<RefusedRow> = Vec::new();
        let mut probes = 0;
        for part in &staged.parts {
            let batch = self.staging.read(part, self.columns).await?;
            let ordinals = Staging::ordinals(&batch).ok_or_else(|| unfit_rows(&self.place.sink, "a staged file has no ordinals"))?;
            // A load that fails without any row is no row's fault.
            if probes == 0 && self.trial(staged, &batch, 0..0).await?.is_some() {
                return Err(blameless(self.place, words));
            }
            let mut pieces = vec![Piece { rows: 0..batch.num_rows(), refused_before: None }];
            while let Some(Piece { rows, refused_before }) = pieces.pop() {
                if rows.is_empty() {
                    continue;
                }
                let surely = refused_before == Some(refused.len()) && rows.len() > 1;
                if !surely {
                    probes += 1;
                    if probes > self.options.max_probes {
                        return Err(too_many_probes(self.place, probes - 1, refused.len(), words));
                    }
                    let Some(words) = self.trial(staged, &batch, rows.clone()).await? else { continue };
                    if rows.len() == 1 {
                        refused.push(RefusedRow { row: ordinals.value(rows.start) as u64, detail: shortened(&words).to_owned() });
                        continue;
                    }
                }
                let middle = rows.start + rows.len() / 2;
                pieces.push(Piece { rows: middle..rows.end, refused_before: Some(refused.len()) });
                pieces.push(Piece { rows: rows.start..middle, refused_before: None });
            }
        }
        tracing::info!(sink = self.place.sink, probes, refused = refused.len(), "refused rows were found by trial loads");
        if refused.is_empty() { Err(blameless(self.place, words)) } else { Ok(refused) }
    }

    /// Loads some rows and forgets them. The words, if one is to blame.
    async fn trial(&self, staged: &StagedEpoch, batch: &arrow::array::RecordBatch, rows: Range<usize>) -> Result<Option<String>> {
        let alone = rows.len() == 1;
        let (manifest, file) = self.staging.write_trial(staged, batch, rows).await?;
        let plan = trial_plan(self.options, self.columns, &manifest);
        for _ in 0..OVERTAKEN {
            match self.backend.transaction(&plan, false).await {
                Ok(()) => return Ok(None),
                Err(Fault::Row(words)) => return Ok(Some(if alone { self.explained(&file, words).await } else { words })),
                Err(Fault::Overtaken(words)) => tracing::debug!(sink = self.place.sink, words, "a trial load was overtaken"),
                Err(fault) => return Err(fault.into_error(self.place)),
            }
        }
        Err(crate::error::failed(self.place, "trial loads are overtaken again and again"))
    }

    /// What Redshift noted about the load of a file. Its views are not open to everybody, so its first words are kept as they are.
    async fn explained(&self, file: &str, words: String) -> String {
        let noted = format!("SELECT trim(error_message), trim(column_name) FROM sys_load_error_detail WHERE trim(file_name) = {} ORDER BY start_time DESC LIMIT 1", literal(file));
        match self.backend.query(&noted).await {
            Ok(rows) => match rows.first().map(Vec::as_slice) {
                Some([Some(message), Some(column)]) if !column.is_empty() => format!("{message} (column \"{column}\")"),
                Some([Some(message), ..]) => message.clone(),
                _ => words,
            },
            Err(error) => {
                tracing::debug!(sink = self.place.sink, %error, "sys_load_error_detail cannot be read");
                words
            }
        }
    }
}
