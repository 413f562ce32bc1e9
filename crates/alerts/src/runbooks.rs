//! The pages of the default rules, for `watershed alert runbook`.

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        /// Every page by the name of its rule.
        pub const PAGES: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../docs/runbooks/", $name, ".md")))),*];
    };
}

pages![
    "backpressure",
    "checkpoint-failing",
    "disk-nearly-full",
    "duplicate-rate",
    "lag-growing",
    "latency-objective",
    "no-data",
    "null-rate",
    "quarantine-rate",
    "records-lost",
    "sink-down",
    "rule-failing",
    "skew",
    "slow-epochs",
    "state-growth",
    "stopped",
    "verify-failed",
];

/// The page of a rule.
pub fn page(rule: &str) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == rule).map(|(_, page)| *page)
}
