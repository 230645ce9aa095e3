//! What the server measures of itself: summaries and histograms of one writer without atomics,
//! and a few shared figures that other threads contribute.
//!
//! Corresponds to `metrics/` and `ServerMetrics`. Times are kept in microseconds and shown in
//! milliseconds. Names and texts belong to `admin`.
#![forbid(unsafe_code)]

mod namespaces;
mod pace;
mod shared;
mod summary;
mod terms;

pub use namespaces::Namespaces;
pub use pace::{Pace, WayFigures};
pub use shared::{Measures, SharedCounter, SharedSummary};
pub use summary::{Histogram, Summary};
pub use terms::{SyncFigures, TermFigures};
