//! Whether a partition still holds what a reader asks for.

use watershed_types::{Error, Result};

use crate::source_options::OnDataLoss;
use crate::trouble;

/// What is to be done about an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there, or it is the end.
    There,
    /// Go on elsewhere; so many records are known to be lost; and say so.
    GoOn { at: u64, lost: u64, notice: String },
}

/// Judges an offset against the first one there is and the end.
pub(super) fn judge(partition: &str, asked: u64, first: u64, end: u64, on_data_loss: OnDataLoss) -> Result<Verdict> {
    if (first..=end).contains(&asked) {
        return Ok(Verdict::There);
    }
    let removed = asked < first;
    match (on_data_loss, removed) {
        (OnDataLoss::Fail, true) => Err(Error::invalid(
            trouble::REMOVED,
            format!("offset {asked} of partition \"{partition}\" was removed before it was read; the first one there is {first}, so {} record(s) are lost", first - asked),
        )
        .hint("Set on_data_loss = 'continue' to go on with what is there, or restore the records and start again; a longer retention.ms prevents it.")),
        (OnDataLoss::Fail, false) => Err(Error::invalid(
            trouble::PAST_END,
            format!("offset {asked} of partition \"{partition}\" is asked for, and it ends at {end}: the topic was made anew, or lost its end"),
        )
        .hint("Set on_data_loss = 'continue' to read it from its first record, or restore the topic and start again.")),
        (OnDataLoss::Continue, true) => {
            let lost = first - asked;
            Ok(Verdict::GoOn { at: first, lost, notice: format!("partition \"{partition}\": {lost} record(s) from offset {asked} on were removed before they were read") })
        }
        (OnDataLoss::Continue, false) => Ok(Verdict::GoOn {
            at: first,
            lost: 0,
            notice: format!(
                "partition \"{partition}\" was to be read from offset {asked} and ends at {end}: it was made anew or lost its end, and is read from its first record, {first}, on"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_each_side_of_what_is_there() {
        let judge = |asked, on_loss| judge("orders-3", asked, 10, 20, on_loss);
        assert_eq!(judge(10, OnDataLoss::Fail).expect("there"), Verdict::There);
        assert_eq!(judge(20, OnDataLoss::Fail).expect("the end"), Verdict::There);
        assert_eq!(judge(9, OnDataLoss::Fail).expect_err("removed").code(), trouble::REMOVED);
        assert_eq!(judge(21, OnDataLoss::Fail).expect_err("past the end").code(), trouble::PAST_END);
        assert!(matches!(judge(4, OnDataLoss::Continue), Ok(Verdict::GoOn { at: 10, lost: 6, .. })));
        assert!(matches!(judge(21, OnDataLoss::Continue), Ok(Verdict::GoOn { at: 10, lost: 0, .. })));
    }
}
