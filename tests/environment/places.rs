//! The tests pass wherever the project lies: below a directory that other users cannot enter, and in a root
//! directory that is no mount point.

use crate::programs::rust_files;
use crate::{namespace, public};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::unistd::{chdir, chroot, geteuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const NOBODY: u32 = 65534;

#[test]
fn copy_of_a_hidden_program_is_public() {
    assert!(geteuid().is_root(), "only root can run programs as another user");
    let home = public::dir();
    let hidden = public::copy(Path::new("/bin/true"), home.path());
    fs::set_permissions(home.path(), Permissions::from_mode(0o700)).expect("its mode");
    assert_eq!(public::closed_to_others(&hidden).as_deref(), Some(home.path()));
    let copy = public::Copy::of(&hidden);
    assert_eq!(public::closed_to_others(copy.program()), None);
    assert!(copy.command_as(NOBODY, NOBODY).status().expect("it starts").success());
    let place = copy.dir().to_owned();
    drop(copy);
    assert!(!place.exists());
}

/// Other ways work only if other users can reach the project.
#[test]
fn other_users_get_programs_from_one_place() {
    // In two parts, so that the search does not find this line.
    let setter = concat!(".u", "id(");
    for path in rust_files(&["tests", "benches"]) {
        let text = fs::read_to_string(&path).expect("UTF-8 source");
        let sets_user = |line: &str| line.split(setter).skip(1).any(|rest| !rest.starts_with(')'));
        let line = text.lines().position(sets_user).map(|index| index + 1);
        if !path.ends_with("tests/common/public.rs") {
            assert_eq!(line, None, "{}: use public::command_as or public::Copy", path.display());
        }
    }
}

fn mount_at(dir: &Path, kind: &str) {
    mount(Some("none"), dir, Some(kind), MsFlags::empty(), None::<&str>).expect("mounted");
}

fn set_propagation(dir: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, dir, None::<&str>, flags, None::<&str>)
}

/// A root inside a shared mount, like a plain chroot on a machine with systemd.
#[test]
fn own_mounts_in_a_plain_chroot_stay_private() {
    let disk = public::dir();
    let inside = || {
        namespace::enter(CloneFlags::empty()).expect("a mount namespace; this needs root");
        mount_at(disk.path(), "tmpfs");
        set_propagation(disk.path(), MsFlags::MS_SHARED).expect("shared");
        let root = disk.path().join("root");
        for dir in ["proc", "small", "work"] {
            fs::create_dir_all(root.join(dir)).expect("a directory");
        }
        mount_at(&root.join("proc"), "proc");
        chroot(&root).expect("a root");
        chdir("/work").expect("a directory");
        assert_eq!(set_propagation(Path::new("/"), MsFlags::MS_PRIVATE), Err(Errno::EINVAL));
        let deeper = || {
            namespace::enter(CloneFlags::empty()).expect("a namespace in a plain chroot");
            assert_eq!(fs::canonicalize(".").expect("a directory"), Path::new("/work"));
            mount_at(Path::new("/small"), "tmpfs");
            fs::write("/small/file", "x").expect("a file");
        };
        std::thread::scope(|scope| scope.spawn(deeper).join()).expect("no panic");
        assert!(Path::new("/small").is_dir(), "the root is the same");
        assert!(!Path::new("/small/file").exists(), "the mount was propagated");
    };
    std::thread::scope(|scope| scope.spawn(inside).join()).expect("no panic");
}
