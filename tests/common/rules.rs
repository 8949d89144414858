//! Runs rules of the project's Makefile. Paths below the project are passed relative to it: make cannot have a
//! space in the name of a target, and the project may lie in a directory with one.

use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(project()).unwrap_or(path).to_owned()
}

/// A command that makes `rules` with what the tests have built, and installs below `root`.
pub fn make(root: &Path, rules: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let mut make = Command::new("make");
    make.args(["--silent", "PROFILE=dev"]).args(rules);
    make.arg(format!("DESTDIR={}", relative(root).display())).arg(format!("CARGO={}", env!("CARGO")));
    // The flags of an outer make are not for this one.
    make.env("CARGO_TARGET_DIR", relative(target)).env_remove("MAKEFLAGS").current_dir(project());
    make
}
