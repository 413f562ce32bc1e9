//! What the console shows of the running pipeline: the graph as of now, and series of the last hours.

mod graph;
mod process;
mod ring;
mod sampler;

pub use graph::{Constants, GraphView, view};
pub use ring::{Resolution, Series, SeriesView};
pub use sampler::{Sampler, SourceOfFigures};
