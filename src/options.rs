//! From the command line to resolved paths: [`Options`] is what was typed, [`Config`] what follows
//! from it and from the host. It creates nothing and never starts anything.

use clap::{Arg, ArgAction, Command, value_parser};
use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Log debug messages.
    pub debug: bool,
    /// Stay in the foreground.
    pub foreground: bool,
    /// Ignore `corosync.conf`; every change is allowed.
    pub local: bool,
    /// Address of this node, instead of what its name resolves to.
    pub address: Option<IpAddr>,
    /// Name of this node, instead of the host name.
    pub node: Option<String>,
    /// Put every path below this directory.
    pub root: Option<PathBuf>,
    /// Name of the IPC service.
    pub service: String,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The command line requests help or the version; contains the text.
    #[error("{0}")]
    Help(String),
    /// The command line is wrong: what is wrong with it.
    #[error("{0}")]
    Usage(String),
}

impl Options {
    /// Reads a command line, program name first.
    ///
    /// # Errors
    /// [`OptionsError::Usage`] for unknown options, arguments, or values that do not parse.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsError> {
        let matches = command().try_get_matches_from(arguments).map_err(|error| {
            let text = error.render().to_string();
            if error.use_stderr() { OptionsError::Usage(one_line(&text)) } else { OptionsError::Help(text) }
        })?;
        Ok(Self {
            debug: matches.get_flag("debug"),
            foreground: matches.get_flag("foreground"),
            local: matches.get_flag("local"),
            address: matches.get_one::<IpAddr>("ip").copied(),
            node: matches.get_one::<String>("node").cloned(),
            root: matches.get_one::<PathBuf>("root").cloned(),
            service: matches.get_one::<String>("service").cloned().unwrap_or_default(),
        })
    }
}

/// The command line, for whoever describes it: the parser here, and the shells' completions.
pub fn command() -> Command {
    let flag = |name: &'static str, short| Arg::new(name).long(name).short(short).action(ArgAction::SetTrue);
    Command::new("pmxcfs")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The Proxmox cluster file system")
        .arg(flag("debug", 'd').help("Log debug messages"))
        .arg(flag("foreground", 'f').help("Do not daemonize"))
        .arg(flag("local", 'l').help("Local mode: ignore corosync.conf and take quorum for granted"))
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Put mount point, database and all other paths below DIR"),
        )
        .arg(
            Arg::new("node")
                .long("node")
                .value_name("NAME")
                .value_parser(node_name)
                .help("Name of this node"),
        )
        .arg(
            Arg::new("ip")
                .long("ip")
                .value_name("ADDR")
                .value_parser(value_parser!(IpAddr))
                .help("Address of this node"),
        )
        .arg(
            Arg::new("service")
                .long("service")
                .value_name("NAME")
                .default_value("pve2")
                .value_parser(service_name)
                .help("Name of the IPC service"),
        )
}

/// A node name becomes a directory name and a link target.
fn node_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let inner = !text.starts_with('-') && !text.ends_with('-');
    if !text.is_empty() && text.len() <= 63 && inner && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("a node name is letters, digits and inner hyphens, 63 at most".to_owned())
}

/// A service name becomes part of file names; clients accept 106 bytes less what they add.
fn service_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(good) {
        return Ok(text.to_owned());
    }
    Err("a service name is letters, digits, '-' and '_', 64 at most".to_owned())
}

/// A usage message as one log line.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    kept.join(" ").trim_start_matches("error: ").to_owned()
}

/// Where everything is: absolute paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Where the tree is mounted.
    pub mount_point: PathBuf,
    /// Directory of the database, made when missing.
    pub state_dir: PathBuf,
    /// The database.
    pub database: PathBuf,
    /// Held while a daemon uses the database.
    pub lock_file: PathBuf,
    /// Directory of run-time files, made when missing.
    pub run_dir: PathBuf,
    /// Exists while a daemon restarts: clients wait.
    pub restart_flag: PathBuf,
    /// Holds the daemon's pid.
    pub pid_file: PathBuf,
    /// The host's corosync configuration.
    pub corosync_conf: PathBuf,
    /// Directory of round-robin files.
    pub rrd_dir: PathBuf,
    /// Socket of the RRD caching daemon.
    pub rrdcached_socket: PathBuf,
}

impl Paths {
    /// Stock's paths, below `root`.
    pub fn below(root: &Path) -> Self {
        let at = |path: &str| root.join(path);
        Self {
            mount_point: at("etc/pve"),
            state_dir: at("var/lib/pve-cluster"),
            database: at("var/lib/pve-cluster/config.db"),
            lock_file: at("var/lib/pve-cluster/.pmxcfs.lockfile"),
            run_dir: at("run/pve-cluster"),
            restart_flag: at("run/pve-cluster/cfs-restart-flag"),
            pid_file: at("run/pve-cluster.pid"),
            corosync_conf: at("etc/corosync/corosync.conf"),
            rrd_dir: at("var/lib/rrdcached/db"),
            rrdcached_socket: at("var/run/rrdcached.sock"),
        }
    }
}

/// What the daemon runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Log debug messages.
    pub debug: bool,
    /// Ignore `corosync.conf`.
    pub local: bool,
    /// Name of this node.
    pub node_name: String,
    /// Its address.
    pub node_address: IpAddr,
    /// Where everything is.
    pub paths: Paths,
    /// True when everything is below a directory of the user's own.
    pub below_root: bool,
    /// Name of the IPC service.
    pub service: String,
    /// Group that owns the tree.
    pub www_data_gid: u32,
}

/// What is missing on this host.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The host name does not lead to an address that peers can use.
    #[error(
        "Unable to resolve node name '{name}' to a non-loopback IP address - missing entry in '/etc/hosts' or \
         DNS? (or give the address with --ip)"
    )]
    Unresolvable {
        /// The node name.
        name: String,
    },
    /// The host name is not usable as a node name.
    #[error("the host name '{name}' is not usable as a node name: {reason} (or give one with --node)")]
    NodeName {
        /// The host name up to its first dot.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The group that owns the tree is missing.
    #[error("Unable to get www-data group ID: the group 'www-data' must exist (groupadd -r www-data)")]
    NoGroup,
    /// The directory given with `--root` cannot be used.
    #[error("cannot use '{path}' as root directory: {source}")]
    Root {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
}

impl Config {
    /// Looks up what the options leave open.
    ///
    /// # Errors
    /// [`ConfigError`] names what is missing.
    pub fn resolve(options: &Options) -> Result<Self, ConfigError> {
        let node_name = match &options.node {
            Some(name) => name.clone(),
            None => host_node_name()?,
        };
        let Some(node_address) = options.address.or_else(|| non_loopback_address(&node_name)) else {
            return Err(ConfigError::Unresolvable { name: node_name });
        };
        let group = nix::unistd::Group::from_name("www-data").ok().flatten().ok_or(ConfigError::NoGroup)?;
        let root = match &options.root {
            // Absolute, because the daemon changes its working directory.
            Some(root) => std::path::absolute(root)
                .map_err(|source| ConfigError::Root { path: root.clone(), source })?,
            None => PathBuf::from("/"),
        };
        Ok(Self {
            debug: options.debug,
            local: options.local,
            node_name,
            node_address,
            paths: Paths::below(&root),
            below_root: options.root.is_some(),
            service: options.service.clone(),
            www_data_gid: group.gid.as_raw(),
        })
    }
}

/// The host name up to its first dot.
fn host_node_name() -> Result<String, ConfigError> {
    let host = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    let name = host.split('.').next().unwrap_or_default().to_owned();
    node_name(&name).map_err(|reason| ConfigError::NodeName { name, reason })
}

/// The first address that is not on the loopback.
fn non_loopback_address(name: &str) -> Option<IpAddr> {
    let addresses = (name, 0u16).to_socket_addrs().ok()?;
    addresses.map(|address| address.ip().to_canonical()).find(|ip| !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, OptionsError> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn stock_options_in_both_spellings() {
        for line in ["pmxcfs -d -f -l", "pmxcfs --debug --foreground --local", "pmxcfs -dfl"] {
            let options = parse(line).expect("stock options");
            assert!(options.debug && options.foreground && options.local);
        }
        let options = parse("pmxcfs").expect("no options");
        assert!(!options.debug && !options.foreground && !options.local);
        assert_eq!(options.service, "pve2");
        assert_eq!((options.root, options.node, options.address), (None, None, None));
    }

    #[test]
    fn options_of_our_own() {
        let options = parse("pmxcfs --root ./run --node n1 --ip 10.0.0.1 --service other").expect("ours");
        assert_eq!(options.root, Some(PathBuf::from("./run")));
        assert_eq!(options.node.as_deref(), Some("n1"));
        assert_eq!(options.address, Some(IpAddr::from([10, 0, 0, 1])));
        assert_eq!(options.service, "other");
    }

    #[test]
    fn wrong_command_lines_say_what_is_wrong() {
        let cases = [
            ("pmxcfs --nosuch", "--nosuch"),
            ("pmxcfs extra", "extra"),
            ("pmxcfs --ip nonsense", "nonsense"),
            ("pmxcfs --node a/b", "node name"),
            ("pmxcfs --service a/b", "service name"),
        ];
        for (line, word) in cases {
            match parse(line) {
                Err(OptionsError::Usage(text)) => {
                    assert!(text.contains(word), "{line}: {text}");
                    assert!(!text.contains('\n'), "{line}: one line, for the log: {text}");
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(parse("pmxcfs --help"), Err(OptionsError::Help(text)) if text.contains("--local")));
        let version = concat!("pmxcfs ", env!("CARGO_PKG_VERSION"), "\n");
        assert!(matches!(parse("pmxcfs --version"), Err(OptionsError::Help(text)) if text == version));
    }

    #[test]
    fn all_paths_are_below_the_root() {
        let paths = Paths::below(Path::new("/try"));
        let all = [
            paths.mount_point,
            paths.state_dir,
            paths.database,
            paths.lock_file,
            paths.run_dir,
            paths.restart_flag,
            paths.pid_file,
            paths.corosync_conf,
            paths.rrd_dir,
            paths.rrdcached_socket,
        ];
        assert!(all.iter().all(|path| path.starts_with("/try")));
        assert_eq!(Paths::below(Path::new("/")).mount_point, Path::new("/etc/pve"));
    }

    #[test]
    fn node_names() {
        assert!(["n", "pve-1", "A9"].iter().all(|name| node_name(name).is_ok()));
        assert!(["", "-a", "a-", "a.b", "a/b", "ä"].iter().all(|name| node_name(name).is_err()));
    }
}
