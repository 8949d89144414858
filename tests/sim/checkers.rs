//! What must hold, each as an object of its own that watches a run and complains.

mod appends;
mod grants;
mod history;
mod same_index;

pub use appends::Appends;
pub use grants::Grants;
pub use history::History;
pub use same_index::SameIndex;

/// What a checker found.
pub type Complaint = String;
