//! What a `files` source may be told in its `WITH` clause.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `path` | a file, a folder (read with its subfolders), a glob, or a URL of an object store | required |
//! | `discover_interval` | how often the folder is listed for new files | `1s` |
//! | `max_line_bytes` | longer records are still delivered, with a notice | `128MB` |
//! | `unterminated_last_line` | `auto`, `take` or `wait`, see [`Unterminated`] | `auto` |
//! | `aws_…`, `allow_http`, … | the object store's own settings, for URLs only | |

use std::path::{Path, PathBuf};
use std::time::Duration;

use watershed_types::{Error, Options, Result};

/// How the records of a CSV source lie in their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvFraming {
    /// The quote character; newlines between two of them belong to a record.
    pub quote: u8,
    /// True if every file starts with a line of column names.
    pub header: bool,
}

/// What becomes of a last line without a line end when a run is about to stop (`run --once`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unterminated {
    /// JSON: taken if it is one whole object. CSV: left waiting, since half a number looks like a number.
    /// Either: taken if the file is compressed and complete, because then nobody is still writing the line.
    #[default]
    Auto,
    /// Always taken.
    Take,
    /// Never taken; it waits for its line end.
    Wait,
}

/// The settings of an object store that are passed on as they are.
const STORE_KEYS: &[&str] = &[
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region",
    "aws_default_region",
    "aws_endpoint",
    "aws_endpoint_url",
    "aws_allow_http",
    "aws_virtual_hosted_style_request",
    "aws_skip_signature",
    "aws_unsigned_payload",
    "aws_s3_express",
    "aws_imdsv1_fallback",
    "aws_metadata_endpoint",
    "aws_container_credentials_relative_uri",
    "aws_request_payer",
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "timeout",
    "proxy_url",
    "user_agent",
];

/// Where the files are.
#[derive(Clone)]
pub(crate) enum Location {
    /// On a disk of this machine; may hold wildcards.
    Local(PathBuf),
    /// In an object store; the URL may hold wildcards. The settings may be secrets.
    Url { url: String, settings: Vec<(String, String)> },
}

/// The options of one `files` source.
#[derive(Clone)]
pub struct FilesOptions {
    pub(crate) owner: String,
    pub(crate) location: Location,
    pub(crate) discover_interval: Duration,
    pub(crate) max_line_bytes: u64,
    pub(crate) unterminated: Unterminated,
}

impl std::fmt::Debug for FilesOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Settings are left out: they may hold keys (I2 of watershed-types).
        let path = match &self.location {
            Location::Local(path) => path.display().to_string(),
            Location::Url { url, .. } => url.clone(),
        };
        f.debug_struct("FilesOptions").field("path", &path).field("discover_interval", &self.discover_interval).finish()
    }
}

impl FilesOptions {
    /// Takes this connector's options. Relative paths are relative to `base`, the project's folder.
    pub fn take(options: &mut Options, base: &Path) -> Result<FilesOptions> {
        let owner = options.owner().to_owned();
        let path = options.require("path")?;
        if path.trim().is_empty() {
            return Err(Error::invalid("FILE0001", format!("{owner}: option \"path\" is empty")).hint("Name a file, a folder or a glob, such as 'data/*.ndjson'."));
        }
        let location = if path.contains("://") {
            let settings = STORE_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), options.take(key)?))).collect();
            Location::Url { url: path, settings }
        } else {
            Location::Local(base.join(path))
        };
        let unterminated = options.parse("unterminated_last_line", "'auto', 'take' or 'wait'", |text| match text.trim().to_ascii_lowercase().as_str() {
            "auto" => Some(Unterminated::Auto),
            "take" => Some(Unterminated::Take),
            "wait" => Some(Unterminated::Wait),
            _ => None,
        })?;
        Ok(FilesOptions {
            owner,
            location,
            discover_interval: options.duration("discover_interval")?.unwrap_or(Duration::from_secs(1)),
            max_line_bytes: options.bytes("max_line_bytes")?.unwrap_or(128 << 20),
            unterminated: unterminated.unwrap_or_default(),
        })
    }
}
