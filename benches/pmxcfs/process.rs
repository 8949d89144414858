//! What the kernel tells about processes and the machine. It starts none.

use crate::Outcome;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;

/// A number of `/proc/PID/FILE`: the first word after `NAME:`.
pub fn proc_number(pid: i32, file: &str, name: &str) -> Outcome<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    Ok(word.ok_or_else(|| format!("{path} has no {name}"))?.parse()?)
}

/// True while the process runs; one that waits to be reaped does not.
pub fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

/// This process, and all it starts from now on, on the first CPU it may use.
pub fn stay_on_one_core() -> Outcome<()> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let mut one = CpuSet::new();
    let first = (0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    one.set(first.ok_or("no CPU allowed")?)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

/// One line on what the numbers were taken on.
pub fn machine(dir: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let load = read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned();
    let disk = disk_of(dir, &read("/proc/self/mounts"));
    let release = read("/proc/sys/kernel/osrelease");
    let model = model.unwrap_or("unknown CPU");
    format!("{cpus} x {model}, Linux {}, databases on {disk}, load {load}", release.trim())
}

/// The type of the file system that holds `dir`; a warning when bytes to it are not bytes to a disk.
fn disk_of(dir: &Path, mounts: &str) -> String {
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let fields = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let holding = fields.filter(|(point, _)| dir.starts_with(point)).max_by_key(|(point, _)| point.len());
    match holding.map_or("?", |(_, kind)| kind) {
        memory @ ("tmpfs" | "ramfs") => {
            format!("{memory} (bytes to disk are NOT measured there: set BENCH_DIR)")
        }
        kind => kind.to_owned(),
    }
}
