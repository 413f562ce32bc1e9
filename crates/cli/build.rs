//! Puts `docs/errors/*.md` into the binary, for `watershed explain`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let pages = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("../../docs/errors");
    println!("cargo::rerun-if-changed={}", pages.display());
    let mut found: Vec<PathBuf> = match fs::read_dir(&pages) {
        Ok(entries) => entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => vec![],
        Err(error) => return Err(error),
    };
    found.sort();
    let mut code = String::from("/// Error pages by code, sorted.\npub const PAGES: &[(&str, &str)] = &[\n");
    for path in &found {
        let name = path.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = path.canonicalize()?;
        code.push_str(&format!("    ({name:?}, include_str!({:?})),\n", path.display().to_string()));
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("error_pages.rs"), code)
}
