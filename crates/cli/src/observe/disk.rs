//! Room on the disks a project writes to, as `df` says it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::project::Project;

static TOLD: AtomicBool = AtomicBool::new(false);

/// The folders that must not run full; object stores have no end.
pub fn places(project: &Project) -> Vec<(&'static str, PathBuf)> {
    let storage = &project.settings.storage;
    let named = [("project", ".watershed"), ("lake", storage.lake.as_str()), ("checkpoints", storage.checkpoints.as_str())];
    named.into_iter().filter(|(_, place)| !place.contains("://")).map(|(name, place)| (name, project.root.join(place))).collect()
}

/// Sets the gauges. Without `df` there are none, which is said once.
pub fn set(places: &[(&'static str, PathBuf)]) {
    for (name, path) in places {
        let Some(there) = path.ancestors().find(|path| path.exists()) else { continue };
        match room(there) {
            Some((size, free)) => {
                metrics::gauge!("watershed_disk_size_bytes", "place" => *name).set(size);
                metrics::gauge!("watershed_disk_free_bytes", "place" => *name).set(free);
            }
            None if !TOLD.swap(true, Ordering::Relaxed) => {
                tracing::warn!(place = name, "`df` does not say how much room there is; nobody will be told when the disk is nearly full")
            }
            None => {}
        }
    }
}

/// Bytes in all and bytes free.
fn room(path: &Path) -> Option<(f64, f64)> {
    let output = Command::new("df").arg("-kP").arg(path).env("LC_ALL", "C").output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// The second line of `df -kP`: name, blocks of 1,024 bytes, used, available, …
fn parse(text: &str) -> Option<(f64, f64)> {
    // A name may have spaces; the figures are counted from the capacity, which ends with %.
    let fields: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    let capacity = fields.iter().position(|field| field.ends_with('%') && field.trim_end_matches('%').parse::<u64>().is_ok())?;
    let number = |back: usize| fields.get(capacity.checked_sub(back)?)?.parse::<f64>().ok();
    Some((number(3)? * 1024.0, number(1)? * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_df_prints() {
        let text = "Filesystem     1024-blocks     Used Available Capacity Mounted on\nmy disk          1000      400       550      43% /a b\n";
        assert_eq!(parse(text), Some((1_024_000.0, 563_200.0)));
        assert_eq!(parse("df: no such file"), None);
    }
}
