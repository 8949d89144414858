//! Caches of the kernel while changes of this node and of another member cross in every order, on a real
//! mount, with a process group that the test controls. Needs root and /dev/fuse.

#[path = "mount/fixture.rs"]
#[allow(dead_code, reason = "shared with the tests of the mounted tree")]
mod fixture;

#[path = "coherence/group.rs"]
mod group;
#[path = "coherence/held.rs"]
mod held;
#[path = "common/namespace.rs"]
mod namespace;
#[path = "coherence/operations.rs"]
mod operations;
#[path = "coherence/pairs.rs"]
mod pairs;
#[path = "common/public.rs"]
mod public;
#[path = "coherence/replaced.rs"]
mod replaced;
#[path = "coherence/scene.rs"]
mod scene;
#[path = "coherence/views.rs"]
mod views;
#[path = "coherence/walks.rs"]
mod walks;
