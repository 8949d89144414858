//! Properties of guest configurations: one line of each of thousands of files, asked for every few
//! seconds. It parses a config once per change and keeps answers, never configs.

pub mod answer;
pub mod scan;
