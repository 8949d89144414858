//! A copy of this machine to install packages on: an overlay in a mount namespace, held by a process; what is
//! changed is kept in memory and vanishes with it. The service manager in it is a stand-in that writes down what
//! it is told.

use crate::namespace;
use crate::rules;
use nix::sched::CloneFlags;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Makes the copy below $1, which stays as long as standard input is open. /run is another one, so that nothing
/// talks to the services of this machine. The packages in $2, the project in $3 and its target directory in $4 are
/// visible in the copy.
const MAKE: &str = r#"
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind /proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
mount -t tmpfs tmpfs "$1/root/run"
mkdir -p "$1/root/run/systemd/system" "$1/root/run/packages"
mount --bind "$2" "$1/root/run/packages"
# The project may be on another file system than the machine.
for place in "$3" "$4"; do
    mkdir -p "$1/root$place"
    mount --bind "$place" "$1/root$place"
    mount -o remount,bind,ro "$1/root$place"
done
# Manual pages are not looked up in here, and to index them all takes its time.
[ ! -e /var/lib/dpkg/triggers/File ] || sed -i '/ man-db$/d' "$1/root/var/lib/dpkg/triggers/File"
echo made
cat >/dev/null
"#;

/// Which program would be started is what counts: it says who it is. `/run/active` is there while the service runs.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
    *is-active*) [ -e /run/active ] ;;
    *daemon-reload*) echo reload >> /run/calls ;;
    *) echo "unexpected: $*" >> /run/calls ;;
esac
"#;

const INVOKE: &str = r#"#!/bin/sh
[ "$*" != "stop pmxcfs-metrics.socket pmxcfs-backup.timer" ] || exit 0
[ "$2" = pve-cluster.service ] || echo "unexpected: $*" >> /run/calls
case "$1" in
    start) [ -e /run/active ] || { /usr/bin/pmxcfs > /run/active && echo "start $(cat /run/active)" >> /run/calls; } ;;
    *restart) if [ -e /run/broken ]; then echo "$1 failed" >> /run/calls; rm -f /run/active; exit 1; fi
        /usr/bin/pmxcfs > /run/active && echo "$1 $(cat /run/active)" >> /run/calls ;;
    stop) rm -f /run/active; echo stop >> /run/calls ;;
    *) echo "unexpected: $*" >> /run/calls ;;
esac
"#;

const HELPER: &str = r#"#!/bin/sh
unit=/etc/systemd/system/pve-cluster.service
case "$1" in
    mask) ln -s /dev/null $unit ;;
    unmask|purge) [ ! -L $unit ] || rm $unit ;;
esac
"#;

pub struct Machine {
    holder: Child,
    /// Where the copy is, in the holder's namespace.
    dir: tempfile::TempDir,
    packages: PathBuf,
}

/// What there is, and what it holds.
pub type Files = BTreeMap<PathBuf, String>;

impl Machine {
    /// None, and a word about it, if this machine has not what it takes.
    pub fn new(packages: &Path) -> Option<Self> {
        let unable = |why: &str| {
            // Not by a macro, whose words the test runner keeps to itself.
            let _ = writeln!(std::io::stderr(), "packages: skipped: {why}");
            None
        };
        if !nix::unistd::geteuid().is_root() {
            return unable("only root can make a copy of the machine");
        }
        if Command::new("dpkg-deb").arg("--version").output().is_err() {
            return unable("there is no dpkg");
        }
        if Path::new("/usr/bin/pmxcfs").exists() {
            return unable("this machine has a pmxcfs installed");
        }
        let dir = tempfile::tempdir().expect("temp dir");
        let mut holder = Command::new("sh");
        let (project, target) = (Path::new(env!("CARGO_MANIFEST_DIR")), rules::target());
        holder.args(["-c", MAKE, "make"]).arg(dir.path()).arg(packages).arg(project).arg(target);
        holder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = match spawn_in_own_namespace(holder) {
            Ok(holder) => holder,
            Err(error) => return unable(&format!("no mount namespace: {error}")),
        };
        let mut line = String::new();
        BufReader::new(holder.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        if line != "made\n" {
            let mut why = String::new();
            holder.stderr.take().expect("a pipe").read_to_string(&mut why).expect("a text");
            holder.wait().expect("our child");
            return unable(&format!("no copy of the machine: {}", why.trim()));
        }
        let machine = Self { holder, dir, packages: packages.to_owned() };
        machine.put("usr/bin/systemctl", SYSTEMCTL, 0o755);
        machine.put("usr/bin/deb-systemd-invoke", INVOKE, 0o755);
        machine.put("usr/bin/deb-systemd-helper", HELPER, 0o755);
        machine.put("var/lib/pve-cluster/config.db", "the database", 0o600);
        machine.put("var/lib/pve-cluster/config.db-wal", "and its log", 0o600);
        machine.put("etc/pve/storage.cfg", "dir: local\n", 0o640);
        Some(machine)
    }

    /// A path of the copy, as seen from here.
    fn path(&self, part: &str, below: &str) -> PathBuf {
        let namespace = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        let dir = self.dir.path().strip_prefix("/").expect("absolute");
        namespace.join(dir).join(part).join(below.trim_start_matches('/'))
    }

    pub fn put(&self, name: &str, text: &str, mode: u32) {
        let path = self.path("root", name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        // A new file: it may be one of many names of the machine's.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
    }

    /// Runs a command in the copy; what it said, and whether it liked it.
    pub fn try_run(&self, command: &[&str]) -> (bool, String) {
        let mut enter = Command::new("nsenter");
        // The root, too: in a plain chroot it is not the root of the namespace.
        enter.args(["--target", &self.holder.id().to_string(), "--mount", "--root"]);
        enter.arg("chroot").arg(self.dir.path().join("root")).args(command);
        enter
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS")
            .stdin(Stdio::null());
        let output = enter.output().expect("nsenter runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    pub fn run(&self, command: &[&str]) -> String {
        let (success, said) = self.try_run(command);
        assert!(success, "{command:?}: {said}");
        said
    }

    fn deb(&self, deb: &Path) -> String {
        let name = deb.strip_prefix(&self.packages).expect("one of the packages");
        format!("/run/packages/{}", name.display())
    }

    /// What dpkg said.
    pub fn install(&self, deb: &Path) -> String {
        self.run(&["dpkg", "--force-downgrade", "-i", &self.deb(deb)])
    }

    /// Runs rules of the Makefile in the copy, with the binaries built outside.
    pub fn try_make(&self, rules: &[&str]) -> (bool, String) {
        let target = format!("CARGO_TARGET_DIR={}", rules::target().display());
        let fixed =
            ["make", "--silent", "-C", env!("CARGO_MANIFEST_DIR"), "PROFILE=dev", "CARGO=true", "SETUP=true"];
        self.try_run(&[&fixed[..], &[target.as_str()], rules].concat())
    }

    pub fn fails_to_install(&self, deb: &Path) {
        let (success, said) = self.try_run(&["dpkg", "-i", &self.deb(deb)]);
        assert!(!success, "{said}");
    }

    pub fn remove(&self, package: &str) {
        self.run(&["dpkg", "--remove", package]);
    }

    pub fn purge(&self, package: &str) {
        self.run(&["dpkg", "--purge", package]);
    }

    /// What the service manager was told since the last time, reloads left out.
    pub fn told(&self) -> Vec<String> {
        let path = self.path("root", "run/calls");
        let calls = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        calls.lines().filter(|line| *line != "reload").map(str::to_owned).collect()
    }

    /// From now on no daemon starts.
    pub fn break_starts(&self) {
        self.put("run/broken", "", 0o600);
    }

    pub fn stop_service(&self) {
        fs::remove_file(self.path("root", "run/active")).expect("it runs");
    }

    /// Who serves, if anybody does.
    pub fn serves(&self) -> Option<String> {
        fs::read_to_string(self.path("root", "run/active")).ok().map(|text| text.trim().to_owned())
    }

    /// What answers to the name.
    pub fn says(&self, program: &str) -> String {
        self.run(&[program]).trim().to_owned()
    }

    pub fn exists(&self, name: &str) -> bool {
        self.path("root", name).symlink_metadata().is_ok()
    }

    /// Whether systemd would get our own unit.
    pub fn generates_the_unit(&self) -> bool {
        let (late, generator) = ("/run/late", "/usr/lib/systemd/system-generators/pmxcfs-rs-unit");
        self.run(&["rm", "-rf", late]);
        self.run(&["mkdir", late]);
        if self.exists(generator) {
            self.run(&[generator, late, late, late]);
        }
        self.exists("/run/late/pve-cluster.service")
    }

    pub fn diversions(&self) -> Vec<String> {
        let list = self.run(&["dpkg-divert", "--list", "*pmxcfs*"]);
        list.lines().map(str::to_owned).collect()
    }

    /// All files that are not the machine's own, or no longer: mode, owner, time of change, contents. Without
    /// what dpkg writes about its work.
    pub fn files(&self) -> Files {
        let upper = self.path("upper", "");
        let mut files = Files::new();
        collect(&upper, &upper, &mut files);
        files
    }
}

/// Starts a program from a thread in a mount namespace that ends with the program.
fn spawn_in_own_namespace(mut command: Command) -> std::io::Result<Child> {
    let spawn = move || {
        namespace::enter(CloneFlags::empty())?;
        command.spawn()
    };
    std::thread::spawn(spawn).join().expect("no panic")
}

fn collect(root: &Path, dir: &Path, files: &mut Files) {
    const NOT_OURS: &[&str] = &["var/lib/dpkg", "var/log", "var/cache", "run", "tmp"];
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.strip_prefix(root).expect("below").to_owned();
        if NOT_OURS.iter().any(|other| name == Path::new(other)) {
            continue;
        }
        let meta = path.symlink_metadata().expect("there");
        let about = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
        if meta.is_dir() {
            collect(root, &path, files);
        } else if meta.is_symlink() {
            files.insert(name, format!("-> {}", fs::read_link(&path).expect("a link").display()));
        } else if meta.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).expect("readable")).into_owned();
            files.insert(name, format!("{about} {} {text}", meta.mtime()));
        } else if path_is_on_machine(&name) {
            // A mark that something of the machine is gone.
            files.insert(name, "removed".to_owned());
        }
    }
}

/// Something that came and went leaves a mark too, but nothing is missing.
fn path_is_on_machine(name: &Path) -> bool {
    Path::new("/").join(name).symlink_metadata().is_ok()
}

impl Drop for Machine {
    fn drop(&mut self) {
        // At the end of its input the holder ends, and all that it holds with it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
