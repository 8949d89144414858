//! Refusals of a handle, its judgement of directories, and drafts that another user replaces. Needs root.

use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

/// Another user.
const OTHER: u32 = 65534;

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("temp dir")
}

fn dir(path: &Path, owner: u32, mode: u32) -> PathBuf {
    std::fs::create_dir(path).expect("made");
    chown(path, Some(owner), Some(owner)).expect("needs root");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    path.to_owned()
}

fn refusal(error: &io::Error) -> Option<&Refusal> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

fn left(path: &Path) -> Vec<OsString> {
    Dir::open(path).and_then(|dir| dir.names()).expect("listed")
}

#[test]
fn only_regular_files_are_opened() {
    let home = home();
    let at = |name: &str| home.path().join(name);
    std::fs::write(at("file"), "text").expect("written");
    std::fs::create_dir(at("directory")).expect("made");
    symlink("file", at("link")).expect("made");
    nix::unistd::mkfifo(&at("fifo"), Mode::S_IRWXU).expect("made");
    drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("bound"));
    let dir = Dir::open(home.path()).expect("opened");
    for access in [Access::Read, Access::ReadWrite] {
        assert_eq!(dir.open_file(OsStr::new("file"), access).expect("opened").metadata().unwrap().len(), 4);
        for (name, found) in [
            ("directory", Kind::Directory),
            ("link", Kind::Link),
            ("fifo", Kind::Fifo),
            ("socket", Kind::Socket),
        ] {
            let error = dir.open_file(OsStr::new(name), access).expect_err(name);
            assert_eq!(refusal(&error), Some(&Refusal::WrongKind { found, wanted: Kind::File }), "{name}");
        }
        let missing = dir.open_file(OsStr::new("missing"), access).expect_err("missing");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
    let devices = Dir::open(Path::new("/dev")).expect("opened");
    let error = devices.open_file(OsStr::new("null"), Access::Read).expect_err("a device");
    assert!(error.to_string().starts_with("it is a device, not a regular file"), "{error}");
    assert!(dir.open_dir(OsStr::new("link")).is_err() && dir.open_dir(OsStr::new("directory")).is_ok());
}

/// The check of the type and the open are two calls, between which an entry can be replaced by a link.
#[test]
fn open_alone_never_follows_or_leaves() {
    let home = home();
    let inner = dir(&home.path().join("inner"), 0, 0o755);
    std::fs::write(home.path().join("file"), "text").expect("written");
    symlink("../file", inner.join("link")).expect("made");
    symlink("..", inner.join("up")).expect("made");
    let inner = Dir::open(&inner).expect("opened");
    for name in ["link", "up", "up/file", "../file", ".."] {
        for flags in [OFlag::O_RDONLY, OFlag::O_RDWR | OFlag::O_CREAT, OFlag::O_PATH | OFlag::O_DIRECTORY] {
            let mode = if flags.contains(OFlag::O_CREAT) { 0o600 } else { 0 };
            assert!(inner.open_entry(OsStr::new(name), flags, mode).is_err(), "{name}, {flags:?}");
        }
    }
}

#[test]
fn names_with_slashes_or_dots_are_refused() {
    let home = home();
    let inner = Dir::open(&dir(&home.path().join("inner"), 0, 0o755)).expect("opened");
    for name in ["", ".", "..", "../x", "a/b", "/etc/hostname"] {
        let name = OsStr::new(name);
        let errors = [
            inner.entry(name).map(|_| ()),
            inner.open_file(name, Access::Read).map(|_| ()),
            inner.make_file(name, 0o600).map(|_| ()),
            inner.make_dir(name, 0o700).map(|_| ()),
            inner.remove(name).map(|_| ()),
        ];
        for error in errors {
            assert_eq!(refusal(&error.expect_err("no name")), Some(&Refusal::NotAName), "{name:?}");
        }
    }
    assert_eq!(left(home.path()), ["inner"]);
}

#[test]
fn exposure_is_judged_by_owner_and_mode() {
    let home = home();
    for (owner, mode, is_private, is_exposed) in [
        (0, 0o755, true, false),
        (0, 0o750, true, false),
        (0, 0o775, false, true),
        (0, 0o757, false, true),
        (0, 0o1777, false, false),
        (OTHER, 0o755, false, true),
        (OTHER, 0o700, false, true),
        (OTHER, 0o1777, false, true),
    ] {
        let path = dir(&home.path().join("judged"), owner, mode);
        let inner = dir(&path.join("inner"), 0, 0o700);
        let case = format!("owner {owner}, mode {mode:o}");
        let judged = Dir::open(&path).expect("opened");
        assert_eq!((judged.is_private(), judged.exposed().is_some()), (is_private, is_exposed), "{case}");
        // In a directory like /tmp others cannot rename the directory of another user.
        let judged = Dir::open(&inner).expect("opened");
        let named = is_exposed.then_some(path.as_path());
        assert_eq!((judged.is_private(), judged.exposed()), (!is_exposed, named), "{case}");
        std::fs::remove_dir_all(path).expect("removed");
    }
}

#[test]
fn links_are_followed_where_only_root_can_put_them() {
    let home = home();
    let target = dir(&home.path().join("target"), 0, 0o755);
    std::fs::write(target.join("file"), "text").expect("written");
    for (owner, mode, link_owner, is_followed) in [
        (0, 0o755, 0, true),
        (0, 0o755, OTHER, true),
        (0, 0o1777, 0, true),
        (0, 0o1777, OTHER, false),
        (0, 0o777, 0, false),
        (OTHER, 0o755, 0, false),
    ] {
        let path = dir(&home.path().join("links"), owner, mode);
        symlink("../target", path.join("relative")).expect("made");
        symlink(target.join("file"), path.join("absolute")).expect("made");
        for name in ["relative", "absolute"] {
            std::os::unix::fs::lchown(path.join(name), Some(link_owner), None).expect("needs root");
        }
        let case = format!("link of {link_owner} in a directory of {owner} with mode {mode:o}");
        let through = Dir::holding(&path.join("relative/file"));
        let last = Dir::holding_target(&path.join("absolute"));
        for found in [through, last] {
            match found {
                Ok((dir, name)) => {
                    assert!(is_followed, "{case}");
                    assert_eq!((dir.path(), name.to_str()), (target.as_path(), Some("file")), "{case}");
                }
                Err(error) => {
                    assert!(!is_followed, "{case}: {error}");
                    assert!(matches!(refusal(&error), Some(Refusal::ForeignLink { .. })), "{case}: {error}");
                }
            }
        }
        std::fs::remove_dir_all(path).expect("removed");
    }
    symlink("circle", home.path().join("circle")).expect("made");
    let error = Dir::open(&home.path().join("circle")).expect_err("endless");
    assert!(error.to_string().starts_with("too many symbolic links"), "{error}");
}

#[test]
fn paths_lead_where_the_kernel_leads_them() {
    let home = home();
    let inner = dir(&home.path().join("inner"), 0, 0o755);
    assert_eq!(Dir::open(&inner.join("../inner/.")).expect("opened").path(), inner);
    let (parent, name) = Dir::holding(&inner.join("../missing")).expect("opened");
    assert_eq!((parent.path(), name.to_str()), (home.path(), Some("missing")));
    for path in [Path::new("/"), &inner.join("..")] {
        assert_eq!(Dir::holding(path).expect_err("no name").kind(), io::ErrorKind::IsADirectory);
    }
    assert_eq!(
        Dir::open(&home.path().join("missing/x")).expect_err("missing").kind(),
        io::ErrorKind::NotFound
    );
}

#[test]
fn draft_has_owner_and_mode_before_contents() {
    let home = home();
    let dir = Dir::open(home.path()).expect("opened");
    let belongs = Belongs { owner: Some((12, 34)), mode: 0o640 };
    let draft = dir.draft_file(OsStr::new("file"), belongs).expect("made");
    let metadata = std::fs::metadata(home.path().join(&left(home.path())[0])).expect("there");
    let owner = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.len());
    assert_eq!(owner, (12, 34, 0o640, 0));
    drop(draft);
    assert_eq!(left(home.path()).len(), 0);
    dir.replace_file(OsStr::new("file"), belongs, b"one").expect("made");
    dir.replace_file(OsStr::new("file"), Belongs::to_me(0o600), b"two").expect("replaced");
    assert_eq!(left(home.path()), ["file"]);
    let path = home.path().join("file");
    let metadata = std::fs::metadata(&path).expect("there");
    assert_eq!(
        (std::fs::read(&path).unwrap(), metadata.uid(), metadata.mode()),
        (b"two".to_vec(), 0, 0o100600)
    );
    let draft = dir.draft_file(OsStr::new("file"), Belongs::to_me(0o600)).expect("made");
    assert_eq!(draft.place_if_free().expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((left(home.path()), std::fs::read(&path).unwrap()), (vec!["file".into()], b"two".to_vec()));
}

/// Another user has replaced the draft by a link to a file of root.
#[test]
fn exchanged_draft_is_an_error_and_stays() {
    let home = home();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "secret").expect("written");
    let path = dir(&home.path().join("work"), 0, 0o755);
    let dir = Dir::open(&path).expect("opened");
    let exchange = || {
        let name = left(&path).into_iter().find(|name| name.as_bytes().starts_with(b".")).expect("a draft");
        std::fs::rename(path.join(&name), path.join("stolen")).expect("renamed");
        symlink(&secret, path.join(&name)).expect("made");
        name
    };
    type End = fn(Draft<File>) -> io::Result<()>;
    for end in [Draft::replace as End, Draft::place_if_free] {
        let draft = dir.draft_file(OsStr::new("file"), Belongs::to_me(0o600)).expect("made");
        exchange();
        let error = end(draft).expect_err("exchanged");
        assert_eq!(refusal(&error), Some(&Refusal::Exchanged), "{error}");
        assert_eq!(std::fs::read(&secret).expect("there"), b"secret");
        left(&path).iter().for_each(|name| std::fs::remove_file(path.join(name)).expect("removed"));
    }
    let draft = dir.draft_dir(OsStr::new("tree")).expect("made");
    draft.made().make_file(OsStr::new("file"), 0o600).expect("made");
    let name = exchange();
    drop(draft);
    assert_eq!(left(&path), [name, "stolen".into()], "what another user put there is not removed");
    assert_eq!(left(&path.join("stolen")).len(), 1);
}

#[test]
fn dropped_directory_draft_leaves_nothing() {
    let home = home();
    let dir = Dir::open(home.path()).expect("opened");
    let draft = dir.draft_dir(OsStr::new("tree")).expect("made");
    let inner = draft.made().make_dir(OsStr::new("inner"), 0o700).expect("made");
    inner.make_file(OsStr::new("file"), 0o600).expect("made");
    draft.made().make_file(OsStr::new("file"), 0o600).expect("made");
    drop(draft);
    assert_eq!(left(home.path()).len(), 0);
    let draft = dir.draft_dir(OsStr::new("tree")).expect("made");
    std::fs::create_dir(home.path().join("tree")).expect("made");
    draft.replace().expect("an empty one is replaced");
    assert_eq!(left(home.path()), ["tree"]);
}
