//! An epoch's rows on S3: Parquet parts, and the manifest that names them.
//!
//! **Owns** the files and where they lie. **Does not own** who loads them.
//!
//! ```text
//! s3://bucket/prefix/<pipeline>/<sink>/<generation>-<which sink of which life>/<epoch>/
//!     part-0000.parquet …   manifest.json            the rows
//!     refused.parquet       refused-manifest.json    the list of those left out
//!     trial/…                                        halves on trial
//! ```
//!
//! Every name is written whole, with the same bytes however often (I3), so a file that is there is complete and right.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredentialProvider};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use serde::Serialize;
use watershed_ports::RefusedRow;
use watershed_types::{Epoch, Generation, Result};

use crate::columns::Columns;
use crate::convert::{Converter, staged_schema};
use crate::error::{Place, bad_option, staging_failed, unfit_rows};
use crate::ledger::{DETAIL_BYTES, Writer};
use crate::options::{RedshiftOptions, Via};
use crate::plan::ORDER;

/// Rows handed to the Parquet writer at once, between looks at the file's size.
const SLICE: usize = 16_384;

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub path: Path,
    pub bytes: u64,
    pub rows: u64,
}

/// An epoch on S3.
#[derive(Debug, Clone)]
pub(crate) struct StagedEpoch {
    folder: Path,
    pub parts: Vec<Part>,
    /// The manifest's URL; none if there are no rows.
    pub manifest: Option<String>,
    /// Rows that are in no file.
    pub refused: Vec<RefusedRow>,
    /// The list of them, as a manifest's URL.
    pub refused_manifest: Option<String>,
    /// Times it was written anew because of refusals.
    rounds: usize,
}

impl StagedEpoch {
    pub fn rows(&self) -> u64 {
        self.parts.iter().map(|part| part.rows).sum()
    }
}

/// The form Redshift wants; for Parquet it insists on the length.
#[derive(Serialize)]
struct Manifest {
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    url: String,
    mandatory: bool,
    meta: Meta,
}

#[derive(Serialize)]
struct Meta {
    content_length: u64,
}

/// The bucket.
pub(crate) struct Staging {
    store: AmazonS3,
    bucket: String,
    /// The sink's own folder.
    root: Path,
    /// Which sink of which life of the pipeline, in short.
    hash: String,
    writer: Writer,
    file_size: u64,
    compression: Compression,
    place: Place,
}

/// A name as a folder: letters, digits, `.`, `_` and `-`; others by their bytes' numbers.
fn folder(name: &str) -> String {
    let mut folder = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => folder.push(byte as char),
            b'.' if !folder.is_empty() => folder.push('.'),
            other => folder.push_str(&format!("!{other:02x}")),
        }
    }
    folder
}

impl Staging {
    /// No network yet. Errors: `RSH0001` for settings that the object store does not know.
    pub fn new(options: &RedshiftOptions, writer: &Writer, place: &Place) -> Result<Self> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(&options.bucket);
        if let Via::DataApi(api) = &options.via {
            builder = builder.with_region(&api.region);
        }
        let fail =
            |cause: object_store::Error| bad_option(&options.sink, "the settings of the object store cannot be used", "Check the options that begin with aws_.").caused_by(cause);
        for (key, value) in &options.storage {
            builder = builder.with_config(key.parse().map_err(fail)?, value.expose());
        }
        let store = builder.build().map_err(fail)?;
        let mut root = Path::parse(&options.prefix).map_err(|cause| fail(cause.into()))?;
        for name in [&writer.pipeline, &writer.sink] {
            root = root.join(folder(name));
        }
        let hash = writer.hash()[..8].to_owned();
        Ok(Self { store, bucket: options.bucket.clone(), root, hash, writer: writer.clone(), file_size: options.file_size, compression: options.compression, place: place.clone() })
    }

    /// The keys this bucket is written with.
    pub fn credentials(&self) -> AwsCredentialProvider {
        Arc::clone(self.store.credentials())
    }

    fn url(&self, path: &Path) -> String {
        format!("s3://{}/{path}", self.bucket)
    }

    fn folder(&self, epoch: Epoch, generation: Generation) -> Path {
        self.root.clone().join(format!("{:010}-{}", generation.0, self.hash)).join(format!("{:012}", epoch.0))
    }

    async fn put(&self, path: &Path, bytes: Vec<u8>) -> Result<()> {
        self.store.put(path, bytes.into()).await.map_err(|cause| staging_failed(&self.place, "a file cannot be staged", cause)).map(drop)
    }

    fn open(&self, schema: &SchemaRef) -> Result<ArrowWriter<Vec<u8>>> {
        // No two ordinals are the same: a dictionary of them is lost work.
        let properties = WriterProperties::builder()
            .set_compression(self.compression)
            .set_column_dictionary_enabled(ColumnPath::from(ORDER), false)
            .set_created_by("watershed".to_owned())
            .build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(schema), options).map_err(|cause| unfit_rows(&self.place.sink, cause))
    }

    /// Closes a file and puts it where it belongs.
    async fn close(&self, writer: ArrowWriter<Vec<u8>>, path: Path, rows: u64) -> Result<Part> {
        let bytes = writer.into_inner().map_err(|cause| unfit_rows(&self.place.sink, cause))?;
        let part = Part { path, bytes: bytes.len() as u64, rows };
        self.put(&part.path, bytes).await?;
        Ok(part)
    }

    async fn write_file(&self, path: Path, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Part> {
        let mut writer = self.open(schema)?;
        for batch in batches {
            writer.write(batch).map_err(|cause| unfit_rows(&self.place.sink, cause))?;
        }
        self.close(writer, path, batches.iter().map(|batch| batch.num_rows() as u64).sum()).await
    }

    async fn write_manifest(&self, path: &Path, parts: &[Part]) -> Result<String> {
        let entry = |part: &Part| Entry { url: self.url(&part.path), mandatory: true, meta: Meta { content_length: part.bytes } };
        let manifest = Manifest { entries: parts.iter().map(entry).collect() };
        let bytes = serde_json::to_vec(&manifest).map_err(|cause| unfit_rows(&self.place.sink, cause))?;
        self.put(path, bytes).await?;
        Ok(self.url(path))
    }

    /// Stages an epoch. Nothing of it is visible to Redshift.
    pub async fn write(&self, columns: &Columns, epoch: Epoch, generation: Generation, rows: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<StagedEpoch> {
        let folder = self.folder(epoch, generation);
        let schema = staged_schema(columns);
        let mut converter = Converter::new(&self.place.sink, columns);
        let mut parts = Vec::new();
        let mut open: Option<(ArrowWriter<Vec<u8>>, u64)> = None;
        let path = |part: usize| folder.clone().join(format!("part-{part:04}.parquet"));
        for batch in rows {
            // Nothing of the epoch is committed while rows still come in.
            let batch = batch.map_err(|error| if error.certainty().is_none() { error.definite() } else { error })?;
            let staged = converter.convert(&batch)?;
            for at in (0..staged.num_rows()).step_by(SLICE) {
                let slice = staged.slice(at, SLICE.min(staged.num_rows() - at));
                let (mut writer, rows) = match open.take() {
                    Some(open) => open,
                    None => (self.open(&schema)?, 0),
                };
                writer.write(&slice).map_err(|cause| unfit_rows(&self.place.sink, cause))?;
                let rows = rows + slice.num_rows() as u64;
                if (writer.bytes_written() + writer.in_progress_size()) as u64 >= self.file_size {
                    parts.push(self.close(writer, path(parts.len()), rows).await?);
                } else {
                    open = Some((writer, rows));
                }
            }
        }
        if let Some((writer, rows)) = open {
            parts.push(self.close(writer, path(parts.len()), rows).await?);
        }
        let mut staged = StagedEpoch { folder, parts, manifest: None, refused: converter.refused, refused_manifest: None, rounds: 0 };
        self.finish(&mut staged, epoch).await?;
        Ok(staged)
    }

    /// Writes the manifests.
    async fn finish(&self, staged: &mut StagedEpoch, epoch: Epoch) -> Result<()> {
        staged.refused.sort_by_key(|row| row.row);
        staged.manifest = None;
        if !staged.parts.is_empty() {
            let name = if staged.rounds == 0 { "manifest.json".to_owned() } else { format!("manifest-{}.json", staged.rounds) };
            staged.manifest = Some(self.write_manifest(&staged.folder.clone().join(name), &staged.parts).await?);
        }
        if !staged.refused.is_empty() {
            let batch = self.refused_batch(&staged.refused, epoch)?;
            let part = self.write_file(staged.folder.clone().join("refused.parquet"), &batch.schema(), &[batch]).await?;
            staged.refused_manifest = Some(self.write_manifest(&staged.folder.clone().join("refused-manifest.json"), &[part]).await?);
        }
        Ok(())
    }

    /// In the order of the columns of `watershed.refused`.
    fn refused_batch(&self, refused: &[RefusedRow], epoch: Epoch) -> Result<RecordBatch> {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text; refused.len()])) };
        let columns: Vec<(&str, DataType, ArrayRef)> = vec![
            ("app_id", DataType::Utf8, text(&self.writer.app_id)),
            ("sink", DataType::Utf8, text(&self.writer.sink)),
            ("epoch", DataType::Int64, Arc::new(Int64Array::from(vec![epoch.0 as i64; refused.len()]))),
            ("ordinal", DataType::Int64, Arc::new(refused.iter().map(|row| row.row as i64).collect::<Int64Array>())),
            ("detail", DataType::Utf8, Arc::new(refused.iter().map(|row| Some(shortened(&row.detail))).collect::<StringArray>())),
        ];
        let schema = Schema::new(columns.iter().map(|(name, kind, _)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>());
        RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, _, array)| array).collect()).map_err(|cause| unfit_rows(&self.place.sink, cause))
    }

    /// A part's rows, read back.
    pub async fn read(&self, part: &Part, columns: &Columns) -> Result<RecordBatch> {
        let unfit = |cause: &dyn std::fmt::Display| unfit_rows(&self.place.sink, format!("\"{}\": {cause}", part.path));
        let lost = |cause| staging_failed(&self.place, "a staged file cannot be read back", cause);
        let bytes: Bytes = self.store.get(&part.path).await.map_err(lost)?.bytes().await.map_err(lost)?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|builder| builder.with_batch_size(1 << 20).build()).map_err(|cause| unfit(&cause))?;
        let batches = reader.collect::<std::result::Result<Vec<_>, _>>().map_err(|cause| unfit(&cause))?;
        concat_batches(&staged_schema(columns), &batches).map_err(|cause| unfit(&cause))
    }

    /// The ordinals of a part's rows in their epoch.
    pub fn ordinals(batch: &RecordBatch) -> Option<&Int64Array> {
        batch.column_by_name(ORDER)?.as_primitive_opt::<Int64Type>()
    }

    /// Stages some rows of a part for a trial; gives the manifest's and the file's URL.
    pub async fn write_trial(&self, staged: &StagedEpoch, batch: &RecordBatch, range: Range<usize>) -> Result<(String, String)> {
        let folder = staged.folder.clone().join("trial");
        let slice = batch.slice(range.start, range.len());
        let part = self.write_file(folder.clone().join("part-0000.parquet"), &batch.schema(), &[slice]).await?;
        let url = self.url(&part.path);
        Ok((self.write_manifest(&folder.join("manifest.json"), &[part]).await?, url))
    }

    /// Stages the epoch anew without some of its rows. Parts that have none of them stay as they are.
    pub async fn without(&self, staged: &mut StagedEpoch, columns: &Columns, epoch: Epoch, refused: Vec<RefusedRow>) -> Result<()> {
        let out: BTreeSet<i64> = refused.iter().map(|row| row.row as i64).collect();
        staged.rounds += 1;
        let mut parts = Vec::with_capacity(staged.parts.len());
        for (index, part) in staged.parts.iter().enumerate() {
            let batch = self.read(part, columns).await?;
            let ordinals = Self::ordinals(&batch).ok_or_else(|| unfit_rows(&self.place.sink, "a staged file has no ordinals"))?;
            let kept: BooleanArray = ordinals.values().iter().map(|ordinal| Some(!out.contains(ordinal))).collect();
            match kept.true_count() {
                0 => {}
                all if all == batch.num_rows() => parts.push(part.clone()),
                _ => {
                    let rest = filter_record_batch(&batch, &kept).map_err(|cause| unfit_rows(&self.place.sink, cause))?;
                    let path = staged.folder.clone().join(format!("part-{index:04}-{}.parquet", staged.rounds));
                    parts.push(self.write_file(path, &batch.schema(), &[rest]).await?);
                }
            }
        }
        staged.parts = parts;
        staged.refused.extend(refused);
        self.finish(staged, epoch).await
    }

    /// Removes what nobody needs any more: files of epochs that are there, and of runs before this one, older than `retention`.
    pub async fn prune(&self, generation: Generation, landed: Epoch, retention: Duration) -> Result<usize> {
        let failed = |cause| staging_failed(&self.place, "staged files cannot be removed", cause);
        let mut removed = 0;
        let mut objects = self.store.list(Some(&self.root));
        while let Some(object) = objects.try_next().await.map_err(failed)? {
            if self.done(&object.location, generation, landed) && old(object.last_modified.timestamp_millis(), retention) {
                self.store.delete(&object.location).await.map_err(failed)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Whether a file belongs to an epoch that is done with. Other sinks' and other lives' files are not ours to judge.
    fn done(&self, path: &Path, generation: Generation, landed: Epoch) -> bool {
        let Some(mut rest) = path.prefix_match(&self.root) else { return false };
        let (Some(run), Some(epoch)) = (rest.next(), rest.next()) else { return false };
        let Some((theirs, hash)) = run.as_ref().split_once('-').map(|(run, hash)| (run.parse::<u64>(), hash)) else { return false };
        let (Ok(theirs), Ok(epoch)) = (theirs, epoch.as_ref().parse::<u64>()) else { return false };
        hash == self.hash && (theirs < generation.0 || (theirs == generation.0 && epoch <= landed.0))
    }
}

fn old(modified_millis: i64, retention: Duration) -> bool {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    retention.is_zero() || i128::from(modified_millis) + retention.as_millis() as i128 <= now as i128
}

/// At most as many bytes as the table keeps, cut between characters.
pub(crate) fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(DETAIL_BYTES)]
}
