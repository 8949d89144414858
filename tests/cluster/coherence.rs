//! What the kernel of one node has cached does not outlive a change by another.

use crate::scenario;
use crate::wait::soon;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

scenario!(names_contents_and_attributes_follow_other_nodes, |cluster| {
    let (here, there) = (&cluster[1], &cluster[3]);
    fs::create_dir(here.tree("d")).expect("mkdir");
    here.write("d/f", "first").expect("written");
    soon("the file", || there.has("d/f", "first"));
    assert!(!there.tree("d/later").exists(), "asked for, and cached");
    assert_eq!(there.list("d"), ["f"]);

    here.write("d/later", "now").expect("written");
    soon("a name that was not there", || there.has("d/later", "now"));
    soon("the listing", || there.list("d") == ["f", "later"]);

    here.write("d/f", "second, longer").expect("written");
    soon("new contents", || there.has("d/f", "second, longer"));
    soon("a new size", || fs::metadata(there.tree("d/f")).is_ok_and(|meta| meta.size() == 14));
    File::options().write(true).open(here.tree("d/f")).and_then(|file| file.set_len(3)).expect("cut");
    soon("a cut file", || there.has("d/f", "sec"));

    fs::rename(here.tree("d/later"), here.tree("d/f")).expect("renamed");
    soon("a replaced file", || there.has("d/f", "now") && there.list("d") == ["f"]);
    assert!(!there.tree("d/later").exists());

    fs::remove_file(here.tree("d/f")).expect("removed");
    fs::remove_dir(here.tree("d")).expect("removed");
    soon("nothing", || !there.tree("d").exists() && !there.list("").contains(&"d".to_owned()));
});

scenario!(descriptors_see_what_other_nodes_write, |cluster| {
    use std::os::unix::fs::FileExt;
    let (here, there) = (&cluster[2], &cluster[1]);
    here.write("f", vec![b'a'; 20_000]).expect("written");
    soon("the file", || there.has("f", vec![b'a'; 20_000]));
    let open = File::open(there.tree("f")).expect("open");
    let mut byte = [0];
    open.read_exact_at(&mut byte, 10_000).expect("read, and cached");
    let file = File::options().write(true).open(here.tree("f")).expect("open");
    for round in b'b'..b'z' {
        file.write_all_at(&[round], 10_000).expect("written");
        soon("a byte", || open.read_exact_at(&mut byte, 10_000).is_ok() && byte[0] == round);
    }
});
