//! Does the table hold what its log says?
//!
//! **Owns** counting and checking. **Does not own** repairs.

use std::fs::File;

use deltalake_core::kernel::Snapshot;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use parquet::file::metadata::ParquetMetaDataReader;
use watershed_types::Result;

use crate::error;
use crate::storage::Place;
use crate::table::LakeTable;

/// What a table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows.
    pub rows: u64,
    /// Files.
    pub files: u64,
}

/// A file the log names.
pub(crate) struct Named {
    pub path: String,
    pub size: u64,
    pub rows: Option<u64>,
}

impl LakeTable {
    /// The rows and files of the newest version: as the log says, or `deep` as the files' own footers say.
    pub fn count_rows(&self, deep: bool) -> Result<RowCounts> {
        let mut counts = RowCounts::default();
        self.shared.runtime.block_on(async {
            for file in self.named_files().await? {
                let rows = match file.rows {
                    Some(rows) if !deep => rows,
                    _ => footer_rows(&self.shared.place, &file.path).await.map_err(|cause| error::file_unreadable(&self.shared.name, &file.path, cause))?,
                };
                counts.rows += rows;
                counts.files += 1;
            }
            Ok(counts)
        })
    }

    /// What is wrong with the files the log names, a line each; empty if nothing is. `deep` reads their footers too.
    pub fn verify(&self, deep: bool) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        self.shared.runtime.block_on(async {
            for file in self.named_files().await? {
                let name = format!("table \"{}\": file \"{}\"", self.shared.name, file.path);
                match self.shared.place.size_of(&file.path).await {
                    Err(cause) => wrong.push(format!("{name} cannot be looked at: {cause}")),
                    Ok(None) => wrong.push(format!("{name} is missing")),
                    Ok(Some(size)) if size != file.size => wrong.push(format!("{name} has {size} bytes, the log says {}", file.size)),
                    Ok(Some(_)) if !deep => {}
                    Ok(Some(_)) => match (footer_rows(&self.shared.place, &file.path).await, file.rows) {
                        (Err(cause), _) => wrong.push(format!("{name} cannot be read: {cause}")),
                        (Ok(found), Some(said)) if found != said => wrong.push(format!("{name} has {found} rows, the log says {said}")),
                        (Ok(_), None) => wrong.push(format!("{name} has no row count in the log")),
                        (Ok(_), Some(_)) => {}
                    },
                }
            }
            Ok(wrong)
        })
    }

    /// Every file of the newest version.
    pub(crate) async fn named_files(&self) -> Result<Vec<Named>> {
        let failed = |cause: deltalake_core::DeltaTableError| error::log_unreadable(&self.shared.name, cause);
        let log = &self.shared.place.log;
        let snapshot = Snapshot::try_new(log.as_ref(), None).await.map_err(failed)?;
        snapshot
            .file_views(log.as_ref(), None)
            .map_ok(|view| Named { path: view.path().into_owned(), size: u64::try_from(view.size()).unwrap_or(0), rows: view.num_records().map(|rows| rows as u64) })
            .try_collect()
            .await
            .map_err(failed)
    }
}

async fn footer_rows(place: &Place, path: &str) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let meta = if let Some(root) = &place.local {
        let file = File::open(root.join(path))?;
        ParquetMetaDataReader::new().parse_and_finish(&file)?
    } else {
        let (store, path) = (place.store(), Place::object_path(path));
        let size = store.head(&path).await?.size;
        let tail = store.get_range(&path, size.saturating_sub(8)..size).await?;
        let length = tail.get(..4).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
        let (Some(length), Some(b"PAR1")) = (length, tail.get(4..)) else { return Err("it is no Parquet file".into()) };
        let start = size.saturating_sub(8 + u64::from(length));
        ParquetMetaDataReader::decode_metadata(&store.get_range(&path, start..size - 8).await?)?
    };
    Ok(u64::try_from(meta.file_metadata().num_rows())?)
}
