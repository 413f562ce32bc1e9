//! The language of conditions: a part of PromQL with `for` behind it, short names, and units on numbers.
//!
//! **Owns** text to tree, tree to value, tree to PromQL. **Does not own** where samples come from, nor what a result means.
//!
//! ```text
//! text ─ lexer ─▶ tokens ─ parser ─▶ Condition ─ evaluate(samples, history, clock) ─▶ series that hold
//!                                        └──── Display ─▶ PromQL
//! ```
//!
//! I1: an error says where in the text it is, with a caret, and what could stand there.
//! I2: what is printed as PromQL reads back as the same tree.

mod evaluate;
mod lexer;
mod parser;
mod tree;

pub use evaluate::{Evaluation, Value};
pub use parser::{Names, parse};
pub use tree::{Aggregation, Condition, Expression, Matcher, Matching, Operator, Selector, Side, Test, WindowFunction, duration};

#[cfg(test)]
mod tests;
