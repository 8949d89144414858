//! No algorithm over the whole tree costs more than n log n, whatever the shape of the tree.

mod growth;
mod memory;
mod shapes;
mod tools;
