//! The lake: a root and the tables under it.
//!
//! **Owns** where a table of a folder and name lies, and opening it. **Does not own** the tables' contents.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoArrow;
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::runtime::Handle;
use url::Url;
use watershed_types::Result;

use crate::commit::{Target, check_rows};
use crate::error;
use crate::head::Head;
use crate::properties::{Compression, Tuning};
use crate::schema::Columns;
use crate::storage::{self, Place};
use crate::table::LakeTable;
use crate::writer::Shared;

/// Where the lake is and how it is written.
#[derive(Debug, Clone)]
pub struct LakeOptions {
    /// A local path, or a URL: `file://`, `s3://bucket/lake`, `memory://name/` (gone with the process).
    pub root: String,
    /// Options of the object store, such as `region` or `aws_access_key_id`.
    pub storage: HashMap<String, String>,
    /// Files are ended at about this size.
    pub target_file_bytes: u64,
    /// How files are compressed, unless a table says otherwise.
    pub compression: Compression,
    /// Compact a partition when at least so many of its files are smaller than a quarter of the target.
    pub compact_min_files: usize,
    /// Keep files that are no longer part of a table this long.
    pub retention: Duration,
}

impl LakeOptions {
    /// The defaults, for this root.
    pub fn new(root: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            storage: HashMap::new(),
            target_file_bytes: 128 << 20,
            compression: Compression::default(),
            compact_min_files: 8,
            retention: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// A table as the project wants it.
#[derive(Debug, Clone)]
pub struct TableSpec {
    /// The table's name, and its folder's.
    pub name: String,
    /// The folder above: a zone's ([`watershed_types::Zone::as_str`]) or `system`.
    pub folder: String,
    /// The columns as the query produces them.
    pub schema: SchemaRef,
    /// The columns whose values are folders, outermost first.
    pub partitioned_by: Vec<String>,
    /// Who writes, for the log's `txn`: one per pipeline and table, such as `watershed/shop/clean_transactions`.
    pub app_id: String,
    /// How this table's files are compressed, if not as the lake's.
    pub compression: Option<Compression>,
    /// For a table whose rows change: the columns that name a row; none of them for a table of one row. The last column of
    /// its schema is then a BOOLEAN that says whether the row is gone, and no column of the table.
    pub key: Option<Vec<String>>,
}

/// A table found under the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExistingTable {
    /// `bronze`, `silver`, `gold`, `system`.
    pub folder: String,
    /// The table's name.
    pub name: String,
    /// What [`crate::table_provider`] takes: a URL.
    pub location: String,
}

/// A root with tables under it.
pub struct Lake {
    pub(crate) options: LakeOptions,
    runtime: Handle,
    root: Url,
}

impl Lake {
    /// Opens a lake; a local root is created. `runtime` must be multi-threaded.
    pub fn open(options: LakeOptions, runtime: Handle) -> Result<Arc<Lake>> {
        let root = storage::directory_url(&options.root)?;
        if root.scheme() == "file" {
            let path = root.to_file_path().map_err(|()| error::location(&options.root, "it is not a path of this machine"))?;
            fs::create_dir_all(&path).map_err(|cause| error::location(&options.root, cause))?;
        } else {
            storage::root_store(&root, &options.storage)?;
        }
        Ok(Arc::new(Self { options, runtime, root }))
    }

    /// Where a table of this folder and name is, as a URL.
    pub fn location(&self, folder: &str, name: &str) -> Result<String> {
        self.table_url(folder, name).map(String::from)
    }

    fn table_url(&self, folder: &str, name: &str) -> Result<Url> {
        let mut url = self.root.clone();
        for part in [folder, name] {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            if part.is_empty() || part.starts_with('.') || !part.chars().all(plain) {
                return Err(error::bad_option(format!("'{part}' cannot name a table or folder of the lake"), "Use letters, digits, '_', '-' and '.', and do not start with '.'."));
            }
        }
        url.path_segments_mut().map_err(|()| error::location(self.root.as_str(), "it cannot have folders"))?.pop_if_empty().extend([folder, name, ""]);
        Ok(url)
    }

    /// Opens a table; creates it if there is none, and adds the columns it lacks. Refuses what does not fit.
    pub fn table(self: &Arc<Self>, spec: TableSpec) -> Result<Arc<LakeTable>> {
        let schema = match &spec.key {
            None => spec.schema,
            Some(_) if !spec.partitioned_by.is_empty() => {
                return Err(error::bad_option(
                    format!("table \"{}\" is PARTITIONED BY, and its rows change", spec.name),
                    "Leave PARTITIONED BY out: files are found by the least and greatest of the key.",
                ));
            }
            Some(_) => {
                let kept: Vec<usize> = (0..spec.schema.fields().len().saturating_sub(1)).collect();
                Arc::new(spec.schema.project(&kept).map_err(|cause| error::bad_batch(&spec.name, cause))?)
            }
        };
        let columns = Columns::new(&spec.name, schema, &spec.partitioned_by)?;
        let place = Place::open(self.table_url(&spec.folder, &spec.name)?, &self.options.storage)?;
        let shared = Shared {
            name: spec.name,
            place,
            columns,
            compression: spec.compression.unwrap_or(self.options.compression),
            target_file_bytes: self.options.target_file_bytes.max(1 << 16),
            tuning: Tuning::default(),
            runtime: self.runtime.clone(),
        };
        let target = Target { table: &shared.name, place: &shared.place, app_id: &spec.app_id, columns: &shared.columns, key: spec.key.as_deref() };
        let head = self.runtime.block_on(target.prepare(self.options.retention))?;
        Ok(Arc::new(LakeTable::new(self.clone(), Arc::new(shared), spec.app_id, spec.key, head)))
    }

    /// Opens a table that is there, to look at it: creates and changes nothing. `None` if there is no such table.
    pub fn open_existing(self: &Arc<Self>, folder: &str, name: &str) -> Result<Option<Arc<LakeTable>>> {
        let place = Place::open(self.table_url(folder, name)?, &self.options.storage)?;
        let Some(head) = self.runtime.block_on(Head::load(name, &place, ""))? else { return Ok(None) };
        let stored: arrow::datatypes::Schema = head.schema.as_ref().try_into_arrow().map_err(|cause| error::log_unreadable(name, cause))?;
        let shared = Shared {
            name: name.to_owned(),
            place,
            columns: Columns::new(name, Arc::new(stored), head.partition_columns())?,
            compression: self.options.compression,
            target_file_bytes: self.options.target_file_bytes.max(1 << 16),
            tuning: Tuning::default(),
            runtime: self.runtime.clone(),
        };
        Ok(Some(Arc::new(LakeTable::new(self.clone(), Arc::new(shared), String::new(), None, head))))
    }

    /// What [`Lake::table`] would do with a table that is there, without doing it: the columns it would add. `None` if there is no
    /// such table. Errors: `LAKE0003` if the query does not fit it.
    pub fn fits(&self, folder: &str, name: &str, schema: SchemaRef, partitioned_by: &[String], key: Option<&[String]>) -> Result<Option<Vec<String>>> {
        let columns = Columns::new(name, schema, partitioned_by)?;
        let place = Place::open(self.table_url(folder, name)?, &self.options.storage)?;
        let Some(head) = self.runtime.block_on(Head::load(name, &place, ""))? else { return Ok(None) };
        check_rows(name, &head.metadata, key)?;
        let missing = columns.missing_in(name, &head.schema, head.partition_columns())?;
        Ok(Some(missing.iter().map(|field| field.name().clone()).collect()))
    }

    /// The tables under the root, by folder and name.
    pub fn existing_tables(&self) -> Result<Vec<ExistingTable>> {
        let failed = |cause: object_store::Error| error::location(self.root.as_str(), cause);
        let (store, root) = storage::root_store(&self.root, &self.options.storage)?;
        let mut found = self.runtime.block_on(async {
            let mut found = Vec::new();
            for folder in store.list_with_delimiter(Some(&root)).await.map_err(failed)?.common_prefixes {
                for table in store.list_with_delimiter(Some(&folder)).await.map_err(failed)?.common_prefixes {
                    let log = table.clone().join("_delta_log");
                    if store.list(Some(&log)).try_next().await.map_err(failed)?.is_none() {
                        continue;
                    }
                    let names: Vec<String> = table.parts().map(|part| part.as_ref().to_owned()).collect();
                    if let [.., folder, name] = &names[..] {
                        found.push(ExistingTable { folder: folder.clone(), name: name.clone(), location: self.location(folder, name)? });
                    }
                }
            }
            Ok::<_, watershed_types::Error>(found)
        })?;
        found.sort();
        Ok(found)
    }
}
