//! What a table outside has answered, kept for a while.
//!
//! **Owns** how long and how many. **Does not own** what is asked, or when.
//!
//! I1: never more answers than the limit; those that were not used for long go first, about.
//! I2: an answer is as old as the tick that asked, by that tick's clock.

use std::sync::Arc;

use hashbrown::HashMap;

/// A row in the form of a row converter; `None` says that there is none of that key.
pub(super) type Answer = Option<Arc<[u8]>>;

struct Kept {
    answer: Answer,
    asked_at: i64,
}

/// Answers by key, in two generations: what is used moves into the younger one, and when that is full the older one goes.
pub(super) struct Answers {
    young: HashMap<Box<[u8]>, Kept>,
    old: HashMap<Box<[u8]>, Kept>,
    limit: usize,
    lasts: i64,
}

impl Answers {
    /// At most so many, each for so many microseconds.
    pub fn new(limit: usize, lasts: i64) -> Answers {
        Answers { young: HashMap::new(), old: HashMap::new(), limit, lasts }
    }

    /// The answer of a key, if it is known and not too old.
    pub fn get(&mut self, key: &[u8], now: i64) -> Option<Answer> {
        if let Some(kept) = self.young.get(key) {
            return self.lasts(kept, now).then(|| kept.answer.clone());
        }
        let (key, kept) = self.old.remove_entry(key)?;
        if !self.lasts(&kept, now) {
            return None;
        }
        let answer = kept.answer.clone();
        self.keep(key, kept);
        Some(answer)
    }

    /// Keeps an answer, in the place of an earlier one.
    pub fn put(&mut self, key: &[u8], answer: Answer, now: i64) {
        if self.limit == 0 || self.lasts == 0 {
            return;
        }
        self.old.remove(key);
        self.keep(key.into(), Kept { answer, asked_at: now });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn lasts(&self, kept: &Kept, now: i64) -> bool {
        now.saturating_sub(kept.asked_at) < self.lasts
    }

    fn keep(&mut self, key: Box<[u8]>, kept: Kept) {
        // Each generation holds half, so that both together stay within the limit.
        if !self.young.contains_key(&key) && self.young.len() >= self.limit.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        if self.young.len() + self.old.len() >= self.limit && !self.young.contains_key(&key) {
            self.old.clear();
        }
        self.young.insert(key, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(answers: &mut Answers, keys: std::ops::Range<u8>, now: i64) -> Vec<u8> {
        keys.filter(|key| answers.get(&[*key], now).is_some()).collect()
    }

    #[test]
    fn the_limit_holds_and_what_is_used_stays() {
        for limit in [1, 2, 3, 10] {
            let mut answers = Answers::new(limit, 1_000);
            for key in 0..100 {
                answers.put(&[key], Some(Arc::from([key])), 0);
                assert!(answers.len() <= limit, "{} of {limit}", answers.len());
                assert_eq!(answers.get(&[key], 0), Some(Some(Arc::from([key]))), "the newest is there");
            }
        }
        let mut answers = Answers::new(10, 1_000);
        for key in 0..100 {
            answers.put(&[key], None, 0);
            assert_eq!(answers.get(&[0], 0), Some(None), "after {key}: it was used all the time");
        }
    }

    #[test]
    fn an_answer_lasts_as_long_as_it_says() {
        let mut answers = Answers::new(10, 1_000);
        (0..4).for_each(|key| answers.put(&[key], None, i64::from(key) * 100));
        assert_eq!(known(&mut answers, 0..5, 999), [0, 1, 2, 3]);
        assert_eq!(known(&mut answers, 0..5, 1_150), [2, 3]);
        answers.put(&[0], None, 1_150);
        assert_eq!(known(&mut answers, 0..5, 1_300), [0]);
        let mut none = Answers::new(0, 1_000);
        none.put(&[1], None, 0);
        assert_eq!((none.len(), Answers::new(10, 0).len()), (0, 0));
    }
}
