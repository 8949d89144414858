//! Every algorithm over the whole tree costs at most n log n, for any shape of the tree.

mod growth;
mod memory;
mod shapes;
mod tools;
