//! One set of features for every build of the workspace. Holds no code: see its `Cargo.toml`.
