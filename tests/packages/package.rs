//! Makes packages: the daemon's from the project's own rules, and one that stands in for the stock one.

use crate::rules;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn put(root: &Path, name: &str, text: &str, mode: u32) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().expect("below the root")).expect("made");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
}

/// Staged files of all packages, made once for all tests.
fn installed() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&tree);
        let archdir = run(Command::new("perl").args(["-MConfig", "-e", "print $Config{vendorarch}"]));
        let (stage, archdir) = (format!("STAGE={}", tree.display()), format!("PERL_ARCHDIR={archdir}"));
        let rules = ["build-programs", "build-perl", "stage-lib", "stage-programs", "stage-perl"];
        run(&mut rules::make(&tree, &[&rules[..], &[&stage, &archdir]].concat()));
        tree
    })
}

/// The packages of a test.
pub struct Packages {
    dir: tempfile::TempDir,
}

impl Packages {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temp dir") }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's package, with this version; `more` are files beyond those of the list.
    pub fn ours(&self, version: &str, more: &[&str]) -> PathBuf {
        let name = if more.is_empty() { format!("ours-{version}") } else { format!("ours-{version}-more") };
        let root = self.dir.path().join(&name);
        let list = fs::read_to_string(project().join("debian/pmxcfs-rs.install")).expect("the list");
        for line in list.lines() {
            place(line, &root);
        }
        for page in fs::read_dir(root.join("usr/share/man/man8")).expect("pages") {
            run(Command::new("gzip").arg("-n9").arg(page.expect("readable").path()));
        }
        for program in fs::read_dir(root.join("usr/bin")).expect("programs") {
            let program = program.expect("readable").file_name().into_string().expect("a name");
            put(&root, &format!("usr/bin/{program}"), &format!("#!/bin/sh\necho ours {version}\n"), 0o755);
        }
        for file in more {
            put(&root, file, "more", 0o644);
        }
        put(&root, "DEBIAN/control", &control("pmxcfs-rs", version), 0o644);
        for script in ["preinst", "postinst", "prerm", "postrm"] {
            let text =
                fs::read_to_string(project().join(format!("debian/pmxcfs-rs.{script}"))).expect("a script");
            put(&root, &format!("DEBIAN/{script}"), &text.replace("#DEBHELPER#", ""), 0o755);
        }
        let triggers = fs::read_to_string(project().join("debian/pmxcfs-rs.triggers")).expect("the triggers");
        put(&root, "DEBIAN/triggers", &triggers, 0o644);
        self.build(&root, &name)
    }

    /// A package of the C library, the files to build with it, or the Perl module.
    pub fn library(&self, package: &str) -> PathBuf {
        let root = self.dir.path().join(package);
        let list = fs::read_to_string(project().join(format!("debian/{package}.install"))).expect("the list");
        for line in list.lines() {
            place(line, &root);
        }
        put(&root, "DEBIAN/control", &control(package, "1.0"), 0o644);
        self.build(&root, package)
    }

    /// What stands in for the stock package, with scripts that do what debhelper's do.
    pub fn stock(&self, version: &str) -> PathBuf {
        let name = format!("stock-{version}");
        let root = self.dir.path().join(&name);
        for program in ["pmxcfs", "create_pmxcfs_db"] {
            put(&root, &format!("usr/bin/{program}"), &format!("#!/bin/sh\necho stock {version}\n"), 0o755);
        }
        put(&root, "usr/share/man/man8/pmxcfs.8.gz", &format!("the stock page {version}"), 0o644);
        put(&root, "usr/share/perl5/PVE/IPCC.pm", &format!("package PVE::IPCC; # {version}\n1;\n"), 0o644);
        put(&root, "usr/share/perl5/PVE/Cluster.pm", &format!("package PVE::Cluster; # {version}\n"), 0o644);
        put(&root, "usr/lib/sysctl.d/10-pve.conf", "fs.aio-max-nr = 1048576\n", 0o644);
        let unit = format!("[Service]\nType=forking\nExecStart=/usr/bin/pmxcfs\n# {version}\n");
        put(&root, "lib/systemd/system/pve-cluster.service", &unit, 0o644);
        fs::create_dir_all(root.join("var/lib/pve-cluster")).expect("made");
        let control = format!(
            "Package: pve-cluster\nVersion: {version}\nArchitecture: all\nMaintainer: a test <test@example.org>\n\
             Description: stand-in\n"
        );
        put(&root, "DEBIAN/control", &control, 0o644);
        let script = |body: &str| format!("#!/bin/sh\nset -e\nunit=pve-cluster.service\n{body}\n");
        let postinst = "deb-systemd-helper unmask $unit\nsystemctl --system daemon-reload\n\
                        if [ -n \"$2\" ]; then action=restart; else action=start; fi\n\
                        [ \"$1\" != configure ] || deb-systemd-invoke $action $unit";
        put(&root, "DEBIAN/postinst", &script(postinst), 0o755);
        put(&root, "DEBIAN/prerm", &script("[ \"$1\" != remove ] || deb-systemd-invoke stop $unit"), 0o755);
        let postrm = "case \"$1\" in\nremove) systemctl --system daemon-reload; deb-systemd-helper mask $unit;;\n\
                      purge) deb-systemd-helper purge $unit;;\nesac";
        put(&root, "DEBIAN/postrm", &script(postrm), 0o755);
        self.build(&root, &name)
    }

    fn build(&self, root: &Path, name: &str) -> PathBuf {
        let deb = self.dir.path().join(format!("{name}.deb"));
        run(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(root).arg(&deb));
        deb
    }
}

/// One line of the list: where from, in what make installs or in the project, and where to.
fn place(line: &str, root: &Path) {
    let mut words = line.split_whitespace();
    let from = words.next().expect("where from");
    let base = if from.starts_with("debian/") { project().to_owned() } else { installed().to_owned() };
    let (to, parents) = words.next().map_or((root.to_owned(), "--parents"), |to| (root.join(to), ""));
    fs::create_dir_all(&to).expect("made");
    let copy = format!("cp -p -P -R {parents} {from} \"$1\"");
    run(Command::new("sh").args(["-ec", &copy, "cp"]).arg(to).current_dir(base));
}

/// The package's paragraph of debian/control, without what the real build fills in.
fn control(package: &str, version: &str) -> String {
    let control = fs::read_to_string(project().join("debian/control")).expect("debian/control");
    let mut paragraphs = control.split("\n\n");
    let ours =
        paragraphs.find(|text| text.starts_with(&format!("Package: {package}\n"))).expect("the package");
    let filled = ["${", "Architecture:", "Multi-Arch:"];
    let kept = ours.lines().filter(|line| !filled.iter().any(|word| line.contains(word)));
    let text = kept.collect::<Vec<_>>().join("\n");
    // A list whose last words were left out ends in a comma.
    let text: Vec<&str> = text.split(",\n").collect();
    let text = text.iter().zip(text.iter().skip(1).map(Some).chain([None])).map(|(part, next)| match next {
        Some(next) if next.starts_with(' ') => format!("{part},\n"),
        Some(_) => format!("{part}\n"),
        None => (*part).to_owned(),
    });
    let text: String = text.collect();
    format!("{}\nVersion: {version}\nArchitecture: all\nMaintainer: a test <test@example.org>\n", text)
}
