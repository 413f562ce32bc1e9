//! Which names a path means.
//!
//! **Owns** splitting a path at its first wildcard, matching names against the rest, and the rule which files are
//! never read. **Does not own** any look at a disk or a bucket.
//!
//! Wildcards: `*` and `?` within a folder, `**` across folders, `[a-z]`, `{a,b}`.

use glob::{MatchOptions, Pattern};
use watershed_types::{Error, Result};

const MATCHING: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The wildcard part of a path, relative to the folder before it. Empty: every name.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamePattern {
    alternatives: Vec<Pattern>,
}

impl NamePattern {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut alternatives = Vec::new();
        for plain in expand_braces(text) {
            alternatives.push(Pattern::new(&plain).map_err(|error| {
                Error::invalid("FILE0002", format!("the path pattern '{text}' cannot be read: {error}")).hint("Use * ? ** [a-z] {a,b}; write [*] for a star in a name.")
            })?);
        }
        Ok(Self { alternatives })
    }

    /// Whether the name, relative to the listing root, is meant.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.alternatives.is_empty() || self.alternatives.iter().any(|p| p.matches_with(name, MATCHING))
    }

    /// Whether files deeper than this many folders can match.
    pub(crate) fn max_depth(&self) -> usize {
        let depth = |p: &Pattern| if p.as_str().contains("**") { usize::MAX } else { p.as_str().matches('/').count() };
        self.alternatives.iter().map(depth).max().unwrap_or(usize::MAX)
    }
}

/// Splits at the last `/` before the first wildcard: the folder, and the pattern below it if there is one.
pub(crate) fn split_at_wildcard(path: &str) -> (&str, Option<&str>) {
    let Some(wildcard) = path.find(['*', '?', '[', '{']) else { return (path, None) };
    match path[..wildcard].rfind('/') {
        Some(slash) => (&path[..=slash], Some(&path[slash + 1..])),
        None => ("", Some(path)),
    }
}

/// Files that programs put beside data or are still writing: a leading `.` or `_` in any folder or file name below
/// the listing root, an ending `.tmp` or `.part`. A path that names one file reads it whatever it is called.
pub(crate) fn is_skipped(name: &str) -> bool {
    let hidden = name.split('/').any(|component| component.starts_with(['.', '_']));
    hidden || name.ends_with(".tmp") || name.ends_with(".part")
}

/// `a{b,c}d` → `abd`, `acd`; nested braces too. An unmatched brace stands for itself.
fn expand_braces(text: &str) -> Vec<String> {
    let Some(open) = text.find('{') else { return vec![text.to_owned()] };
    let mut depth = 0usize;
    let mut cuts = vec![open];
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b',' if depth == 1 => cuts.push(at),
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    cuts.push(at);
                    let rest = &text[at + 1..];
                    let choices = cuts.windows(2).map(|w| &text[w[0] + 1..w[1]]);
                    return choices.flat_map(|c| expand_braces(&format!("{}{c}{rest}", &text[..open]))).collect();
                }
            }
            _ => {}
        }
    }
    vec![text.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_inside_a_folder_and_braces_expand() {
        let pattern = NamePattern::parse("*.{ndjson,json}{,.gz}").expect("a pattern");
        assert!(pattern.matches("a.ndjson") && pattern.matches("a.json.gz"));
        assert!(!pattern.matches("x/a.json") && !pattern.matches("a.csv"));
        let deep = NamePattern::parse("**/*.json").expect("a pattern");
        assert!(deep.matches("a.json") && deep.matches("x/y/a.json"));
        assert_eq!((pattern.max_depth(), deep.max_depth()), (0, usize::MAX));
    }

    #[test]
    fn paths_split_before_the_first_wildcard() {
        assert_eq!(split_at_wildcard("/d/x/*.json"), ("/d/x/", Some("*.json")));
        assert_eq!(split_at_wildcard("s3://b/p/d=*/f.json"), ("s3://b/p/", Some("d=*/f.json")));
        assert_eq!(split_at_wildcard("/d/x.json"), ("/d/x.json", None));
    }

    #[test]
    fn hidden_and_half_written_files_are_skipped() {
        for name in [".a.json", "_SUCCESS", "d/_log/a.json", "a.json.tmp", "a.part"] {
            assert!(is_skipped(name), "{name}");
        }
        assert!(!is_skipped("day=1/a_b.json.gz"));
    }
}
