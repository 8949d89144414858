//! Random operations on a small tree: few names, so that many operations meet the same entries.

use crate::image::Random;
use pmxcfs::memdb::{Change, WriteAt};

pub fn change(random: &mut Random) -> Change {
    let name = |random: &mut Random| {
        let dir = ["", "d0/", "d1/"][random.below(3)];
        format!("{dir}f{}", random.below(4))
    };
    let path = name(random);
    match random.below(13) {
        0 => Change::Mkdir { path: ["d0", "d1", "d0/f0"][random.below(3)].into() },
        1..=5 => Change::Create { path: path.as_str().into() },
        6..=9 => {
            let size = [3, 300, 900, 4_000, 20_000][random.below(5)];
            let at = WriteAt::Offset(random.below(2_000) as u64 * (random.below(2) as u64));
            Change::Write { path: path.as_str().into(), at, data: vec![random.next() as u8; size] }
        }
        10 => Change::Truncate { path: path.as_str().into(), size: random.below(3_000) as u64 },
        11 => Change::Rename { from: path.as_str().into(), to: name(random).as_str().into() },
        _ => Change::Delete { path: path.as_str().into() },
    }
}
