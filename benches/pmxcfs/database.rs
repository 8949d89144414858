//! Makes large databases, row by row, as a daemon would have left them. It knows the table, nothing else.

use crate::Outcome;
use rusqlite::{Connection, params};
use std::fs;
use std::path::Path;

const SCHEMA: &str = "CREATE TABLE tree (
    inode INTEGER PRIMARY KEY NOT NULL,
    parent INTEGER NOT NULL CHECK(typeof(parent)=='integer'),
    version INTEGER NOT NULL CHECK(typeof(version)=='integer'),
    writer INTEGER NOT NULL CHECK(typeof(writer)=='integer'),
    mtime INTEGER NOT NULL CHECK(typeof(mtime)=='integer'),
    type INTEGER NOT NULL CHECK(typeof(type)=='integer'),
    name TEXT NOT NULL,
    data BLOB);";

const DIRECTORY: u8 = 4;
const FILE: u8 = 8;
const MTIME: u32 = 1_700_000_000;

/// An open transaction that takes entries; inode numbers rise from 2.
struct Builder<'a> {
    insert: rusqlite::Statement<'a>,
    inode: i64,
}

impl Builder<'_> {
    fn add(&mut self, parent: i64, name: &str, kind: u8, data: Option<&[u8]>) -> Outcome<i64> {
        self.inode += 1;
        self.insert.execute(params![self.inode, parent, self.inode, 0, MTIME, kind, name, data])?;
        Ok(self.inode)
    }

    fn directory(&mut self, parent: i64, name: &str) -> Outcome<i64> {
        self.add(parent, name, DIRECTORY, None)
    }
}

/// Creates the database at `path` with what `fill` adds.
fn build(path: &Path, fill: impl Fn(&mut Builder) -> Outcome<()>) -> Outcome<()> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.execute_batch(SCHEMA)?;
    let transaction = connection.transaction()?;
    let last = {
        let insert = transaction.prepare("INSERT INTO tree VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
        let mut builder = Builder { insert, inode: 1 };
        fill(&mut builder)?;
        let last = builder.inode;
        builder.insert.execute(params![0, 0, last, 0, MTIME, FILE, "__version__", None::<Vec<u8>>])?;
        last
    };
    transaction.commit()?;
    drop(connection);
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    if last < 2 { Err("an empty database".into()) } else { Ok(()) }
}

/// What a guest's configuration looks like: about 600 bytes, some with a snapshot.
pub fn guest_config(vmid: usize) -> String {
    let mut text = format!(
        "agent: 1\nballoon: 2048\nboot: order=scsi0;ide2;net0\ncores: 4\ncpu: x86-64-v2-AES\n\
         ide2: none,media=cdrom\nmachine: q35\nmemory: 8192\nmeta: creation-qemu=9.0.2,ctime=1725000000\n\
         name: guest-{vmid}.example.org\nnet0: virtio=BC:24:11:{:02X}:{:02X}:{:02X},bridge=vmbr0,firewall=1\n\
         numa: 0\nonboot: 1\nostype: l26\nscsi0: local-lvm:vm-{vmid}-disk-0,discard=on,iothread=1,size=64G\n\
         scsihw: virtio-scsi-single\nsmbios1: uuid=5e0ab6a1-0d6c-4f59-a9a4-{vmid:012}\nsockets: 1\n\
         tags: production;web;zone-{}\nvmgenid: 0c0a6a3b-6b1d-4fd0-9d7e-{vmid:012}\n",
        (vmid >> 16) & 255,
        (vmid >> 8) & 255,
        vmid & 255,
        vmid % 10,
    );
    if vmid % 10 == 0 {
        text += "\n[before-upgrade]\nname: old-name\nmemory: 4096\ntags: old\nsnaptime: 1725000000\n";
    }
    text
}

/// What makes a database one of a cluster: the contents of its `corosync.conf`, none otherwise.
#[derive(Clone, Copy)]
pub struct CorosyncConf<'a>(pub Option<&'a str>);

/// On its own.
pub const ALONE: CorosyncConf<'static> = CorosyncConf(None);

impl CorosyncConf<'_> {
    fn add(self, builder: &mut Builder) -> Outcome<()> {
        if let Some(text) = self.0 {
            builder.add(0, "corosync.conf", FILE, Some(text.as_bytes()))?;
        }
        Ok(())
    }
}

/// `count` guests from VMID 100 on, all of this node.
pub fn with_guests(path: &Path, conf: CorosyncConf, node: &str, count: usize) -> Outcome<()> {
    build(path, |builder| {
        conf.add(builder)?;
        let nodes = builder.directory(0, "nodes")?;
        let node = builder.directory(nodes, node)?;
        let guests = builder.directory(node, "qemu-server")?;
        for vmid in 100..100 + count {
            builder.add(guests, &format!("{vmid}.conf"), FILE, Some(guest_config(vmid).as_bytes()))?;
        }
        Ok(())
    })
}

/// `count` files of together `bytes` bytes, a hundred in a directory.
pub fn with_files(path: &Path, conf: CorosyncConf, count: usize, bytes: usize) -> Outcome<()> {
    let content: Vec<u8> = (0..bytes / count).map(|index| b'a' + (index % 26) as u8).collect();
    build(path, |builder| {
        conf.add(builder)?;
        let top = builder.directory(0, "files")?;
        let mut directory = top;
        for index in 0..count {
            if index % 100 == 0 {
                directory = builder.directory(top, &format!("{:04}", index / 100))?;
            }
            builder.add(directory, &format!("{:02}", index % 100), FILE, Some(&content))?;
        }
        Ok(())
    })
}

/// One directory, `wide`, with `count` small files, named by six digits.
pub fn with_wide_directory(path: &Path, count: usize) -> Outcome<()> {
    build(path, |builder| {
        let wide = builder.directory(0, "wide")?;
        for index in 0..count {
            builder.add(wide, &format!("{index:06}"), FILE, Some(b"small"))?;
        }
        Ok(())
    })
}
