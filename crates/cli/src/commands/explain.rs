//! `watershed explain CODE`: the page of an error code, as it was when this binary was built.

use watershed_types::{Error, Result, near_miss};

use crate::output::print;

mod pages {
    include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));
}

/// The page of a code.
pub fn page(code: &str) -> Option<&'static str> {
    pages::PAGES.iter().find(|(name, _)| *name == code).map(|(_, page)| *page)
}

/// Runs the command.
pub fn run(code: &str) -> Result<u8> {
    let wanted = code.trim().to_ascii_uppercase();
    if let Some(page) = page(&wanted) {
        print(page)?;
        return Ok(0);
    }
    let family: String = wanted.chars().take_while(char::is_ascii_alphabetic).collect();
    let codes: Vec<&str> = pages::PAGES.iter().map(|(name, _)| *name).collect();
    let related: Vec<&str> = codes.iter().copied().filter(|c| !family.is_empty() && c.trim_end_matches(|d: char| d.is_ascii_digit()) == family).collect();
    let hint = match (near_miss(&wanted, codes.iter().copied()), related.is_empty()) {
        (_, false) => format!("Codes of this kind: {}.", related.join(", ")),
        (Some(near), true) => format!("Did you mean {near}?"),
        (None, true) => {
            let mut families: Vec<&str> = codes.iter().map(|c| c.trim_end_matches(|d: char| d.is_ascii_digit())).collect();
            families.dedup();
            format!("Codes start with {}, and end with four digits.", families.join(", "))
        }
    };
    Err(Error::invalid("CLI0083", format!("there is no page for \"{code}\"")).hint(hint))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::pages::PAGES;

    fn codes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("tests") {
                codes_in(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.extend(text.split('"').filter(|word| is_code(word)).map(str::to_owned));
            }
        }
    }

    fn is_code(word: &str) -> bool {
        let letters = word.chars().take_while(char::is_ascii_uppercase).count();
        (2..=5).contains(&letters) && word.len() == letters + 4 && word.chars().skip(letters).all(|c| c.is_ascii_digit())
    }

    #[test]
    fn every_code_has_a_page_and_every_page_a_code() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crates folder");
        let mut used = BTreeSet::new();
        for entry in fs::read_dir(crates).expect("a folder").flatten() {
            let source = entry.path().join("src");
            if source.is_dir() {
                codes_in(&source, &mut used);
            }
        }
        let pages: BTreeSet<String> = PAGES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let missing: Vec<_> = used.difference(&pages).collect();
        let stale: Vec<_> = pages.difference(&used).collect();
        assert!(missing.is_empty() && stale.is_empty(), "codes without a page: {missing:?}; pages without a code: {stale:?}");
    }

    #[test]
    fn every_page_starts_with_its_code() {
        for (code, page) in PAGES {
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
        }
    }
}
