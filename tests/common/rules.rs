//! Runs rules of the project's Makefile. Paths below the project are passed relative to it: target names in
//! make cannot contain a space, but the project's path may.

#![allow(dead_code, reason = "each test program uses its own part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(project()).unwrap_or(path).to_owned()
}

/// Where Cargo builds.
pub fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory")
}

/// A command that makes `rules` with the programs built for the tests, and installs below `root`.
pub fn make(root: &Path, rules: &[&str]) -> Command {
    let mut make = Command::new("make");
    make.args(["--silent", "PROFILE=dev"]).args(rules);
    make.arg(format!("DESTDIR={}", relative(root).display())).arg(format!("CARGO={}", env!("CARGO")));
    // Flags of an outer make do not apply to this one.
    make.env("CARGO_TARGET_DIR", relative(target())).env_remove("MAKEFLAGS").current_dir(project());
    make
}
