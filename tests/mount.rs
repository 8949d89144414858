//! The mounted tree, on real mounts in temporary directories: one file per topic below `mount/`.
//! They need root and /dev/fuse, as the daemon does.

#[path = "common/disk.rs"]
mod disk;
#[path = "mount/fixture.rs"]
mod fixture;
#[path = "common/image.rs"]
mod image;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "common/public.rs"]
mod public;

#[path = "mount/coherence.rs"]
mod coherence;
#[path = "mount/differential.rs"]
mod differential;
#[path = "mount/durability.rs"]
mod durability;
#[path = "mount/errnos.rs"]
mod errnos;
#[path = "mount/files.rs"]
mod files;
#[path = "mount/generated.rs"]
mod generated;
#[path = "mount/guests.rs"]
mod guests;
#[path = "mount/limits.rs"]
mod limits;
#[path = "mount/listings.rs"]
mod listings;
#[path = "mount/load.rs"]
mod load;
#[path = "mount/locks.rs"]
mod locks;
#[path = "mount/mounting.rs"]
mod mounting;
#[path = "mount/moves.rs"]
mod moves;
#[path = "mount/names.rs"]
mod names;
#[path = "mount/nodes.rs"]
mod nodes;
#[path = "mount/open_files.rs"]
mod open_files;
#[path = "mount/stalls.rs"]
mod stalls;
#[path = "mount/sync.rs"]
mod sync;
#[path = "mount/users.rs"]
mod users;
