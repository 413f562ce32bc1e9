//! What a check found: a line each.

use serde_json::json;
use watershed_types::Result;

use crate::arguments::Format;
use crate::output::{Cell, Sheet, count, print, print_json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Note,
    Repaired,
    Failed,
}

/// One line of a report.
#[derive(Debug, Clone)]
pub struct Finding {
    verdict: Verdict,
    check: &'static str,
    message: String,
    next: Option<String>,
}

impl Finding {
    /// A check that passed.
    pub fn good(check: &'static str, message: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Good, check, message: message.into(), next: None }
    }
    /// Something worth knowing that is no discrepancy.
    pub fn note(check: &'static str, message: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Note, check, message: message.into(), next: None }
    }
    /// A discrepancy, and what to do about it.
    pub fn failed_with(check: &'static str, message: impl Into<String>, next: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, check, message: message.into(), next: Some(next.into()) }
    }
    /// Something that was mended.
    pub fn repaired(check: &'static str, message: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Repaired, check, message: message.into(), next: None }
    }
    /// True if it says that a target has lost an epoch.
    pub fn says_lost(&self) -> bool {
        self.failed() && self.message.ends_with("they are lost there")
    }
    /// True if it says that something could not be looked at.
    pub fn unchecked(&self) -> bool {
        self.message.contains(" was not checked: ")
    }
    /// True for a discrepancy.
    pub fn failed(&self) -> bool {
        self.verdict == Verdict::Failed
    }
    /// Which check found it.
    pub fn check(&self) -> &'static str {
        self.check
    }
    /// The words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Good => "ok",
            Verdict::Note => "note",
            Verdict::Repaired => "mend",
            Verdict::Failed => "FAIL",
        }
    }
}

/// Prints findings; the exit code is 1 if there is a discrepancy.
pub fn report(findings: &[Finding], format: Format) -> Result<u8> {
    let failed = findings.iter().filter(|f| f.failed()).count() as u64;
    match format {
        Format::Table => {
            let mut text = String::new();
            for finding in findings {
                text.push_str(&format!("{:<4}  {}: {}\n", finding.word(), finding.check, finding.message));
                if let Some(next) = &finding.next {
                    text.push_str(&format!("      {next}\n"));
                }
            }
            let all = if findings.iter().any(Finding::unchecked) { "\nwhat could be checked agrees\n" } else { "\neverything agrees\n" };
            text.push_str(&if failed == 0 { all.to_owned() } else { format!("\n{}\n", count(failed, "discrepancy").replace("discrepancys", "discrepancies")) });
            print(&text)?;
        }
        Format::Json => {
            for finding in findings {
                print_json(&json!({ "result": finding.word().to_lowercase(), "check": finding.check, "message": finding.message, "next": finding.next }))?;
            }
        }
        Format::Csv => {
            let mut sheet = Sheet::new(&["result", "check", "message", "next"]);
            for finding in findings {
                let next = finding.next.as_ref().map_or(Cell::Null, Cell::text);
                sheet.push(vec![Cell::text(finding.word().to_lowercase()), Cell::text(finding.check), Cell::text(&finding.message), next]);
            }
            sheet.print(Format::Csv)?;
        }
    }
    Ok(u8::from(failed > 0))
}
