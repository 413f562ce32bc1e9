//! Rebuilds the crate when the built console changes. Builds nothing itself: that is `make build`, or `npm run build`.

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    println!("cargo::rerun-if-changed=build.rs");
    // A path that is not there would make every build a rebuild, so the nearest one that is there is watched.
    for place in ["console/dist", "console"] {
        let path = root.join(place);
        if path.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            return;
        }
    }
}
