//! The committed completions are those of the programs as they are. `make completions` writes them anew.

use clap::Command;
use clap_complete::{Shell, generate};
use std::fs;
use std::path::{Path, PathBuf};

/// The programs that have completions. The Makefile installs those that it lists as COMPLETED.
fn programs() -> Vec<(&'static str, Command)> {
    vec![
        ("pmxcfs", pmxcfs::options::command()),
        ("pmxcfs-db", pmxcfs::dbtool::command()),
        ("pmxcfs-ctl", pmxcfs::ctl::command()),
    ]
}

fn file(program: &str, shell: Shell) -> PathBuf {
    let name = match shell {
        Shell::Zsh => format!("_{program}"),
        shell => format!("{program}.{shell}"),
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("completions").join(name)
}

#[test]
fn they_are_those_of_the_programs() {
    let write = std::env::var_os("PMXCFS_WRITE_COMPLETIONS").is_some();
    for (program, mut command) in programs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            generate(shell, &mut command, program, &mut text);
            let path = file(program, shell);
            if write {
                fs::create_dir_all(path.parent().expect("in the project")).expect("a directory");
                fs::write(&path, &text).expect("written");
            }
            let committed = fs::read(&path).unwrap_or_default();
            assert!(committed == text, "'{}' is not up to date: make completions", path.display());
        }
    }
}

#[test]
fn those_and_no_others_are_installed() {
    let makefile =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).expect("readable");
    let listed = makefile.lines().find_map(|line| line.strip_prefix("COMPLETED = ")).expect("listed");
    let names: Vec<&str> = programs().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), names);
}
