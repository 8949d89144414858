//! A daemon with its database on a small file system of its own.

use crate::fixture::{Root, wait_until};
use crate::namespace;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::statvfs;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const GUESTS: usize = 301;

/// A log of 4 MiB, the tree, and room for its transactions.
const USED_MAX: u64 = 8 << 20;

const ROUNDS_MIN: usize = 8;

/// Time of further rounds.
const LOAD_TIME: Duration = Duration::from_secs(6);

/// A file system of 16 MiB in the place of a database.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(root: &Root) -> Self {
        namespace::enter_once();
        let dir = root.path("var/lib/pve-cluster");
        fs::create_dir_all(&dir).unwrap();
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("size=16m")).unwrap();
        Self(dir)
    }

    fn used(&self) -> u64 {
        let space = statvfs(&self.0).unwrap();
        (space.blocks() - space.blocks_free()) * space.fragment_size()
    }

    /// Fills all free space with one file, and returns its path.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut ballast = File::create(&path).unwrap();
        let error = loop {
            if let Err(error) = ballast.write_all(&[1; 4096]) {
                break error;
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

/// Configuration of a guest, 500 to 700 bytes.
fn guest(vmid: usize) -> String {
    let disk = |number| format!("scsi{number}: local-lvm:vm-{vmid}-disk-{number},iothread=1,size=32G\n");
    let disks = (0..4 + vmid % 4).map(disk).collect::<Vec<_>>().concat();
    let notes = "#Kept by the automation. Ask the team before a change.\n".repeat(3);
    format!(
        "{notes}agent: 1\nboot: order=scsi0\ncores: 4\nmemory: 4096\nname: guest{vmid}\n\
         net0: virtio=BC:24:11:2E:8B:5C,bridge=vmbr0,firewall=1\nonboot: 1\n{disks}scsihw: virtio-scsi-single\n"
    )
}

/// Replaces one text in a file as `sed -i` does: by a new file that gets its name.
fn replace(path: &Path, from: &str, to: &str) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let draft = path.with_file_name("sedA1b2C3");
    File::create_new(&draft)?.write_all(text.replace(from, to).as_bytes())?;
    fs::rename(&draft, path)
}

#[test]
fn small_disk_with_many_guests_is_never_full() {
    let root = Root::new();
    let disk = SmallDisk::new(&root);
    let mut daemon = root.serve(&["--local"]);
    let paths: Vec<PathBuf> =
        (100..100 + GUESTS).map(|vmid| root.tree(&format!("nodes/n1/qemu-server/{vmid}.conf"))).collect();
    for dir in ["nodes", "nodes/n1", "nodes/n1/qemu-server"] {
        fs::create_dir(root.tree(dir)).unwrap();
    }
    for (vmid, path) in (100..).zip(&paths) {
        let text = guest(vmid);
        assert!((500..=700).contains(&text.len()), "{}", text.len());
        fs::write(path, text).unwrap();
    }
    let (start, mut rounds, mut used) = (Instant::now(), 0, 0);
    while rounds < ROUNDS_MIN || start.elapsed() < LOAD_TIME {
        let (from, to) = if rounds % 2 == 0 { ("cores: 4", "cores: 8") } else { ("cores: 8", "cores: 4") };
        for path in &paths {
            replace(path, from, to).unwrap_or_else(|error| panic!("round {rounds}, {path:?}: {error}"));
        }
        used = used.max(disk.used());
        rounds += 1;
    }
    eprintln!("{rounds} rounds in {:?}, at most {used} bytes used", start.elapsed());
    assert!(used < USED_MAX, "{used} bytes used");
    let sed = Command::new("sed").args(["-i", "s/^memory: .*/memory: 2048/"]).args(&paths).output().unwrap();
    assert!(sed.status.success(), "{sed:?}");
    assert!(disk.used() < USED_MAX, "{} bytes used", disk.used());

    let ballast = disk.fill();
    // First the space of the log is used. Writes of a large file return before its commit, which fails.
    let fill_tree = |number: usize| {
        let mut file = File::create(root.tree(&format!("large{number}")))?;
        file.write_all(&[7; 512 << 10])?;
        file.sync_all()
    };
    let error = (0..32).find_map(|number| fill_tree(number).err()).expect("no space");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let error = fs::write(root.tree("refused"), "text").expect_err("no space");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    let error = replace(&paths[0], "memory: 2048", "memory: 1").expect_err("no space");
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    for path in &paths {
        assert!(fs::read_to_string(path).unwrap().contains("memory: 2048"), "{path:?}");
    }
    fs::remove_file(ballast).unwrap();
    let freed = Instant::now();
    wait_until("changes are accepted", || fs::write(root.tree("after"), "text").is_ok());
    let took = freed.elapsed();
    eprintln!("changes are accepted {took:?} after space was freed");
    assert!(took < Duration::from_secs(5), "{took:?}");
    for path in &paths {
        replace(path, "memory: 2048", "memory: 4096").unwrap();
    }
    let (status, log) = daemon.stop();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(log.matches("can be written again").count(), 1, "{log}");
    let checked = Command::new(env!("CARGO_BIN_EXE_pmxcfs-db")).arg("check").arg(root.database()).output();
    assert!(checked.as_ref().is_ok_and(|output| output.status.success()), "{checked:?}");
}
