//! The only builder of durable paths.

use watershed_types::{Epoch, Generation};

/// Paths relative to a checkpoint folder, `/`-separated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Paths;

impl Paths {
    /// What never changes.
    pub const METADATA: &'static str = "metadata.json";
    /// Who owned the pipeline when.
    pub const GENERATIONS: &'static str = "generations";
    /// Prepared epochs.
    pub const OFFSETS: &'static str = "offsets";
    /// Complete epochs.
    pub const COMMITS: &'static str = "commits";
    /// Operators' state.
    pub const STATE: &'static str = "state";
    /// Rows on their way to outside targets.
    pub const STAGED: &'static str = "staged";
    /// Up to where [`Paths::STAGED`] was cleared.
    pub const KEPT: &'static str = "staged/kept.json";
    /// Epochs that a sink took after their commit record was written.
    pub const DELIVERIES: &'static str = "deliveries";
    /// Accounts of epochs whose commit records were folded together.
    pub const LEDGER: &'static str = "ledger";

    /// `generations/0000000007.json`
    pub fn generation(generation: Generation) -> String {
        format!("{}/{:010}.json", Self::GENERATIONS, generation.0)
    }
    /// `offsets/000000000012.json`
    pub fn offsets(epoch: Epoch) -> String {
        format!("{}/{:012}.json", Self::OFFSETS, epoch.0)
    }
    /// `commits/000000000012.json`
    pub fn commit(epoch: Epoch) -> String {
        format!("{}/{:012}.json", Self::COMMITS, epoch.0)
    }
    /// `state/000000000012-g7-<operator>.arrow`; operator names are made safe for file systems.
    pub fn state(epoch: Epoch, generation: Generation, operator: &str) -> String {
        format!("{}/{:012}-g{}-{}.arrow", Self::STATE, epoch.0, generation.0, safe(operator))
    }
    /// `state/000000000012-g7-<operator>-3.arrow`: a further file of a state that is too large for one.
    pub fn state_part(epoch: Epoch, generation: Generation, operator: &str, part: usize) -> String {
        match part {
            0 => Self::state(epoch, generation, operator),
            part => format!("{}/{:012}-g{}-{}-{part}.arrow", Self::STATE, epoch.0, generation.0, safe(operator)),
        }
    }
    /// `staged/000000000012-g7-<sink>-0.arrow`
    pub fn staged(epoch: Epoch, generation: Generation, sink: &str, number: usize) -> String {
        format!("{}/{:012}-g{}-{}-{number}.arrow", Self::STAGED, epoch.0, generation.0, safe(sink))
    }
    /// `deliveries/000000000012-<sink>.json`
    pub fn delivery(epoch: Epoch, sink: &str) -> String {
        format!("{}/{:012}-{}.json", Self::DELIVERIES, epoch.0, safe(sink))
    }
    /// `ledger/000000000001-000000000256.json`
    pub fn ledger(first: Epoch, last: Epoch) -> String {
        format!("{}/{:012}-{:012}.json", Self::LEDGER, first.0, last.0)
    }
    /// The number a file name starts with.
    pub fn number(path: &str) -> Option<u64> {
        let name = path.rsplit('/').next()?;
        let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        if !name.ends_with(".json") && !name.ends_with(".arrow") {
            return None;
        }
        name[..digits].parse().ok()
    }
}

/// A name as a part of a file name. Where that loses something, a checksum tells names apart.
fn safe(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' }).collect();
    if plain == name { plain } else { format!("{plain}-{}", crate::checksum(name.as_bytes()).rsplit(':').next().unwrap_or_default()) }
}
