//! The command line of `pmxcfs-ctl`.

use super::CtlError;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) service: String,
    /// Mount point to look at; `None` is the one that the daemon reports.
    pub(super) mount: Option<PathBuf>,
    /// How long an answer may take.
    pub(super) timeout: Duration,
    pub(super) json: bool,
    pub(super) action: Action,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Status { interval: Option<Duration> },
    Log(LogFilter),
    Guests(GuestFilter),
    Get(Get),
    Watch(WatchFilter),
    Metrics(MetricsTarget),
}

/// Which entries of the cluster log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFilter {
    pub(super) entries: u32,
    pub(super) user: String,
}

/// Which guests, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuestFilter {
    pub(super) node: Option<String>,
    pub(super) properties: Vec<String>,
}

/// Which changes, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchFilter {
    /// None are all.
    pub(super) kinds: Vec<String>,
    pub(super) below: Option<String>,
    pub(super) count: Option<u64>,
}

/// Where metrics go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MetricsTarget {
    Print,
    File(PathBuf),
    /// Serve clients that send HTTP requests on standard input.
    Http {
        /// Host names that requests may use.
        hosts: Vec<String>,
    },
}

/// One thing to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Get {
    File(String),
    Status {
        key: String,
        node: String,
    },
    /// None is all guests.
    Guest {
        vmid: Option<u32>,
        properties: Vec<String>,
    },
}

impl Options {
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, CtlError> {
        let matches = command().try_get_matches_from(arguments).map_err(|error| {
            let text = error.render().to_string();
            if error.use_stderr() { CtlError::Usage(one_line(&text)) } else { CtlError::Help(text) }
        })?;
        let text = |name: &str| matches.get_one::<String>(name).cloned();
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        Ok(Self {
            service: text("service").unwrap_or_default(),
            mount: path("mount").or_else(|| path("root").map(|root| root.join("etc/pve"))),
            timeout: matches.get_one::<Duration>("timeout").copied().unwrap_or_default(),
            json: matches.get_flag("json"),
            action: action(&matches).ok_or_else(|| CtlError::Usage("no command given".to_owned()))?,
        })
    }
}

fn action(matches: &ArgMatches) -> Option<Action> {
    let (name, matches) = matches.subcommand()?;
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    Some(match name {
        "status" => Action::Status { interval: matches.get_one::<Duration>("interval").copied() },
        "log" => Action::Log(LogFilter {
            entries: matches.get_one::<u32>("entries").copied()?,
            user: text("user").unwrap_or_default(),
        }),
        "guests" => {
            Action::Guests(GuestFilter { node: text("node"), properties: texts(matches, "property") })
        }
        "get" => Action::Get(get(matches)?),
        "metrics" if matches.get_flag("http") => {
            Action::Metrics(MetricsTarget::Http { hosts: texts(matches, "host") })
        }
        "metrics" => {
            let file = matches.get_one::<PathBuf>("output").cloned();
            Action::Metrics(file.map_or(MetricsTarget::Print, MetricsTarget::File))
        }
        "watch" => Action::Watch(WatchFilter {
            kinds: texts(matches, "kind"),
            below: text("below"),
            count: matches.get_one::<u64>("count").copied(),
        }),
        _ => return None,
    })
}

fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).map(|values| values.cloned().collect()).unwrap_or_default()
}

fn get(matches: &ArgMatches) -> Option<Get> {
    let (name, matches) = matches.subcommand()?;
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    Some(match name {
        "file" => Get::File(text("path")?),
        "status" => Get::Status { key: text("key")?, node: text("node").unwrap_or_default() },
        _ => Get::Guest {
            vmid: *matches.get_one::<Option<u32>>("vmid")?,
            properties: texts(matches, "property"),
        },
    })
}

/// The command line, also for who makes completions of it.
pub fn command() -> Command {
    Command::new("pmxcfs-ctl")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Asks a running pmxcfs what it has and does")
        .after_help(
            "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon, 4 no permission, 5 no answer in time, \
             6 not known to this daemon, 7 its database file is lost",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(global("service", "NAME").default_value("pve2").help("Name of the IPC service"))
        .arg(
            global("root", "DIR")
                .value_parser(value_parser!(PathBuf))
                .help("The daemon's --root: the tree should be at DIR/etc/pve"),
        )
        .arg(
            global("mount", "DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Where the tree should be mounted [default: where the daemon mounted it]"),
        )
        .arg(
            global("timeout", "SECONDS")
                .value_parser(seconds)
                .default_value("10")
                .help("How long an answer may take"),
        )
        .arg(Arg::new("json").long("json").global(true).action(ArgAction::SetTrue).help("Print JSON"))
        .subcommand(status())
        .subcommand(log())
        .subcommand(guests())
        .subcommand(get_command())
        .subcommand(watch())
        .subcommand(metrics())
}

fn global(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).global(true)
}

fn status() -> Command {
    Command::new("status").about("Node, quorum, members, database, groups, clients, rates").arg(
        Arg::new("interval")
            .long("interval")
            .value_name("SECONDS")
            .value_parser(seconds)
            .help("Measure rates for so long, instead of since the start"),
    )
}

fn log() -> Command {
    Command::new("log")
        .about("The newest entries of the cluster log, the newest last")
        .arg(
            Arg::new("entries")
                .short('n')
                .long("entries")
                .value_name("COUNT")
                .value_parser(value_parser!(u32).range(1..))
                .default_value("50")
                .help("At most so many"),
        )
        .arg(Arg::new("user").long("user").value_name("USER").help("Only those of a user, such as root@pam"))
}

fn guests() -> Command {
    Command::new("guests")
        .about("All guests of the cluster")
        .arg(Arg::new("node").long("node").value_name("NAME").help("Only those on a node"))
        .arg(
            Arg::new("property")
                .long("property")
                .value_name("NAME")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .help("Also this property of each, such as cores; can be given several times"),
        )
}

fn get_command() -> Command {
    let properties = Arg::new("property").value_name("PROPERTY").required(true).num_args(1..=255);
    Command::new("get")
        .about("A file of the tree, a status value, or properties of guests")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("file")
                .about("A file, as it is in the daemon's memory")
                .arg(Arg::new("path").value_name("PATH").required(true).help("Path in the tree")),
        )
        .subcommand(
            Command::new("status")
                .about("A key of a node's status")
                .arg(Arg::new("key").value_name("KEY").required(true).help("The key"))
                .arg(
                    Arg::new("node")
                        .long("node")
                        .value_name("NAME")
                        .help("Of this node [default: the local one]"),
                ),
        )
        .subcommand(
            Command::new("guest")
                .about("Properties of a guest's configuration")
                .arg(
                    Arg::new("vmid")
                        .value_name("VMID")
                        .required(true)
                        .value_parser(vmid)
                        .help("The guest, or 'all'"),
                )
                .arg(properties.help("Names of properties")),
        )
}

fn watch() -> Command {
    Command::new("watch")
        .about("Changes of the tree, quorum, members, status and log, as they happen; one line each")
        .arg(
            Arg::new("kind")
                .long("kind")
                .value_name("KIND")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(["tree", "quorum", "members", "status", "log", "guests"])
                .help("Only changes of this kind; can be given several times"),
        )
        .arg(
            Arg::new("below")
                .long("below")
                .value_name("PATH")
                .help("Only this path of the tree and what is below it"),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("COUNT")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after so many changes"),
        )
}

fn metrics() -> Command {
    Command::new("metrics")
        .about("Metrics in the text format of Prometheus")
        .arg(
            Arg::new("output")
                .long("output")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Replace this file, as a textfile collector wants it"),
        )
        .arg(
            Arg::new("http")
                .long("http")
                .action(ArgAction::SetTrue)
                .conflicts_with("output")
                .help("Answer requests of HTTP on standard input: a listening socket, or one connection"),
        )
        .arg(
            Arg::new("host")
                .long("host")
                .value_name("NAME")
                .action(ArgAction::Append)
                .requires("http")
                .help("Host name that requests may name, beside localhost and literal addresses"),
        )
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u32>().ok().filter(|&seconds| seconds > 0 && seconds <= 86400);
    let seconds = seconds.ok_or_else(|| "a number of seconds from 1 to 86400 is needed".to_owned())?;
    Ok(Duration::from_secs(seconds.into()))
}

fn vmid(text: &str) -> Result<Option<u32>, String> {
    if text == "all" {
        return Ok(None);
    }
    let vmid = text.parse::<u32>().ok().filter(|&vmid| vmid >= 100);
    vmid.map(Some).ok_or_else(|| "a VMID (100 or more) or 'all' is needed".to_owned())
}

/// A usage message as one line.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept: Vec<&str> = lines.take_while(|line| !line.starts_with("Usage:")).collect();
    kept.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, CtlError> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        for line in ["pmxcfs-ctl --json --service x status", "pmxcfs-ctl status --service x --json"] {
            let options = parse(line).expect("a command line");
            assert_eq!((options.service.as_str(), options.json), ("x", true));
            assert_eq!(options.action, Action::Status { interval: None });
            assert_eq!((options.mount, options.timeout), (None, Duration::from_secs(10)));
        }
        let mount = |line: &str| parse(line).expect("a command line").mount;
        assert_eq!(mount("pmxcfs-ctl status --root /r"), Some("/r/etc/pve".into()));
        assert_eq!(mount("pmxcfs-ctl status --root /r --mount /m"), Some("/m".into()));
    }

    #[test]
    fn what_to_get() {
        let get = |line: &str| match parse(&format!("pmxcfs-ctl get {line}")).expect("a command line").action
        {
            Action::Get(get) => get,
            other => panic!("{other:?}"),
        };
        assert_eq!(get("file a/b"), Get::File("a/b".to_owned()));
        let status = |node: &str| Get::Status { key: "k".to_owned(), node: node.to_owned() };
        assert_eq!(get("status k"), status(""));
        assert_eq!(get("status k --node n2"), status("n2"));
        let guest = |vmid| Get::Guest { vmid, properties: vec!["name".to_owned(), "tags".to_owned()] };
        assert_eq!(get("guest 100 name tags"), guest(Some(100)));
        assert_eq!(get("guest all name tags"), guest(None));
    }

    #[test]
    fn wrong_command_lines_are_one_line() {
        for line in [
            "pmxcfs-ctl nonsense",
            "pmxcfs-ctl status extra",
            "pmxcfs-ctl status --timeout 0",
            "pmxcfs-ctl log -n 0",
            "pmxcfs-ctl get guest 99 name",
            "pmxcfs-ctl get guest 100",
        ] {
            match parse(line) {
                Err(error @ CtlError::Usage(_)) => {
                    assert!(!error.to_string().contains('\n'), "{error}");
                    assert_eq!(error.exit_code(), 2);
                }
                other => panic!("{line}: {other:?}"),
            }
        }
        assert!(matches!(parse("pmxcfs-ctl --help"), Err(CtlError::Help(_))));
    }
}
