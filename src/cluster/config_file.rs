//! The host's `corosync.conf`, which follows the one in the database: written when that one is not
//! older, and then loaded by corosync on all nodes if the change was made here. It never writes into
//! the database.

use crate::dir;
use rust_corosync::cfg;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How long the new file gets to reach the other nodes before corosync is told to load it.
const RELOAD_DELAY: Duration = Duration::from_secs(1);

/// What has the version of a configuration.
const VERSION_KEY: &[u8] = b"config_version";

/// Copies the database's configuration out. `reload`: corosync is to load it, if it had one before.
pub(super) fn export(content: &[u8], path: &Path, reload: bool) {
    let Some(version) = config_version(content).filter(|_| !content.is_empty()) else {
        if !content.is_empty() {
            log::error!(target: "dcdb", "unable to parse cluster config_version");
        }
        return;
    };
    let old = match dir::read_file(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            log::error!(target: "dcdb", "unable to read cluster config file '{}' - {error}", path.display());
            Vec::new()
        }
    };
    if old == content {
        return;
    }
    let old_version = config_version(&old);
    if old_version.is_some_and(|old| version < old) {
        log::error!(target: "dcdb", "local corosync.conf is newer");
        return;
    }
    if let Err(error) = dir::replace_file(path, 0o644, content) {
        log::error!(target: "dcdb", "unable to write corosync config '{}' - {error}", path.display());
        return;
    }
    log::info!(target: "dcdb", "wrote new corosync config '{}' (version = {version})", path.display());
    if reload && old_version.is_some() {
        reload_later();
    }
}

/// The number behind `config_version:`, unless it is 0.
fn config_version(content: &[u8]) -> Option<u64> {
    let find = |from: usize| {
        let rest = content.get(from..)?;
        rest.windows(VERSION_KEY.len()).position(|window| window == VERSION_KEY).map(|at| from + at)
    };
    let mut from = 0;
    while let Some(at) = find(from) {
        from = at + VERSION_KEY.len();
        if let Some(version) = number_after_colon(&content[from..]) {
            return Some(version).filter(|version| *version > 0);
        }
    }
    None
}

fn number_after_colon(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = std::str::from_utf8(&text[..length]).ok()?;
    if digits.is_empty() { None } else { Some(digits.parse().unwrap_or(u64::MAX)) }
}

/// Tells corosync on all nodes, from a thread of its own: it may take its time.
fn reload_later() {
    let reload = || {
        thread::sleep(RELOAD_DELAY);
        let callbacks = cfg::Callbacks { corosync_cfg_shutdown_callback_fn: None };
        let reloaded = cfg::initialize(&callbacks).and_then(|handle| cfg::reload_cnfig(&handle));
        if let Err(error) = reloaded {
            log::error!(target: "dcdb", "corosync does not load its new configuration: {error}");
        }
    };
    if let Err(error) = thread::Builder::new().name("reload".to_owned()).spawn(reload) {
        log::error!(target: "dcdb", "corosync is not told of its new configuration: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn versions() {
        let cases: [(&[u8], Option<u64>); 8] = [
            (b"totem {\n  config_version: 7\n}", Some(7)),
            (b"config_version \t:\n 12x", Some(12)),
            (b"config_version 3\nconfig_version:4", Some(4)),
            (b"config_version: 0", None),
            (b"config_version: x", None),
            (b"config_version", None),
            (b"config_version:99999999999999999999999", Some(u64::MAX)),
            (b"", None),
        ];
        for (text, version) in cases {
            assert_eq!(config_version(text), version, "{}", text.escape_ascii());
        }
    }

    fn conf(version: u64, rest: &str) -> Vec<u8> {
        format!("totem {{\n  config_version: {version}\n}}\n{rest}").into_bytes()
    }

    #[test]
    fn a_newer_or_equal_version_is_written_an_older_is_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("corosync.conf");
        let now = || fs::read(&path).expect("written");
        export(&conf(2, "a"), &path, false);
        assert_eq!(now(), conf(2, "a"));
        let mode = fs::metadata(&path).expect("written").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
        export(&conf(1, "older"), &path, false);
        assert_eq!(now(), conf(2, "a"));
        export(&conf(2, "same version"), &path, false);
        assert_eq!(now(), conf(2, "same version"));
        export(b"no version", &path, false);
        export(b"", &path, false);
        assert_eq!(now(), conf(2, "same version"));
        let left: Vec<_> = fs::read_dir(dir.path()).expect("dir").collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        export(&conf(1, ""), &dir.path().join("missing/corosync.conf"), false);
        assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 0);
    }
}
