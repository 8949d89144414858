//! The libraries, installed by the project's own rules, and programs made with them.

use crate::rules;
use crate::support::run;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// As `-Wall`, and what else a careful program would ask for.
pub const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"];

pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where all is installed: what would be `/`.
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
        let _ = std::fs::remove_dir_all(&root);
        make_into(&root, &["install-lib"]);
        root
    })
}

/// Makes and installs more.
pub fn make(args: &[&str]) {
    make_into(root(), args);
}

fn make_into(root: &Path, args: &[&str]) {
    run(&mut rules::make(root, &[&["LIBDIR=/usr/lib"], args].concat()));
}

pub fn lib_dir() -> PathBuf {
    root().join("usr/lib")
}

/// Where the libqb that is none lies.
pub fn qb_dir() -> PathBuf {
    lib_dir().join("pmxcfs-qb")
}

pub fn include_dir() -> PathBuf {
    root().join("usr/include")
}

/// Compiles a program of ffi-tests; `extra` are arguments behind the source.
pub fn compile(compiler: &str, source: &str, name: &str, extra: &[&str]) -> PathBuf {
    let program = root().join(name);
    let mut command = Command::new(compiler);
    command.args(WARNINGS).arg("-I").arg(include_dir()).arg("-o").arg(&program);
    run(command.arg(project().join("ffi-tests").join(source)).args(extra));
    program
}

/// A command that finds the installed library.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", lib_dir());
    command
}

/// The client in C, linked with the shared library.
pub fn c_client() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let dir = format!("-L{}", lib_dir().display());
        compile("cc", "pmxcfs_client.c", "client", &[&dir, "-lpmxcfs", "-lpthread"])
    })
}
