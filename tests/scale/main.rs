//! No algorithm over the whole tree costs more than n log n, whatever the shape of the tree.

mod growth;
mod shapes;

use growth::{assert_near_linear, cost};
use pmxcfs::memdb::MemDb;
use shapes::Shape;
use std::time::Duration;

#[test]
fn load_of_any_shape_is_near_linear() {
    for shape in Shape::ALL {
        assert_near_linear(&format!("load {shape:?}"), |entries| {
            let rows = shape.rows(entries);
            let (took, tree) = cost(|| MemDb::load(rows, Duration::ZERO).expect("a sound tree"));
            assert_eq!(tree.usage().entries, entries);
            took
        });
    }
}
