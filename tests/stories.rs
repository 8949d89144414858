//! The rules of the state machine as stories: in `tests/stories/*.txt`, what happens to one node of
//! the database group, `----`, and what it does; a story has one or more such paragraphs.
//! `UPDATE_STORIES=1` writes down what it does now, to be read before it is believed.
//!
//! Events, one on a line; members are NODE/PID, databases have names, `ours` is this node's:
//!
//! | line | event |
//! | --- | --- |
//! | `quorum yes`, `quorum no` | quorum is there, or lost |
//! | `join 1/10` | the group is about to be joined |
//! | `confchg 1/10 2/20 joined` | the members, `joined` if somebody did |
//! | `back` | everything that this node sent is delivered, in order |
//! | `lost` | nothing of what this node sent is ever delivered |
//! | `start 2/20 7` | a member begins the round with its epoch 7 |
//! | `state 2/20 NAME` | a member tells a database as its state; `stock-state` if it is a stock node |
//! | `updates 2/20 NAME` | a member sends all of a database, each entry in a message of its own |
//! | `packed-updates 2/20 NAME` | the same in one message |
//! | `complete 2/20` | a member says that no more updates follow |
//! | `verify-request 2/20 5`, `verify 2/20 5 NAME` | a member verifies, and tells the checksum |
//! | `normal 2/20 3 CHANGE` | a member's message number 3 |
//! | `raw 2/20 HEX` | bytes |
//! | `submit 5 CHANGE`, `expire PATH` | a local client wants something, 5 is its ticket |
//! | `send-failed normal 3`, `send-failed state` | what could not be sent |
//! | `store-failed`, `store-broken`, `tick 60` | the disk, for now and for good; seconds that go by |
//! | `db NAME = OTHER`, `db NAME CHANGE` | a copy of a database, a change of it |
//! | `tree` | shows our tree |

use pmxcfs::dcdb::wire::{Request, decode_updates, encode_update};
use pmxcfs::dcdb::{Dcdb, DcdbEffect, wire as dcdb_wire};
use pmxcfs::dfsm::wire::{Base, Epoch, Extension, MemberId, Message, Normal, Sync, SyncKind};
use pmxcfs::dfsm::{App, Dfsm, Effect, Event, Now, Pieces, Purpose, Submission, Ticket};
use pmxcfs::memdb::{Change, EntryChange, Index, Limits, MemDb, Row, Stamp, WriteAt};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When every story begins, in seconds since 1970.
const BEGIN: u32 = 1000;

/// One node in the middle of a story.
struct Stage {
    dfsm: Dfsm<Dcdb>,
    dbs: BTreeMap<String, MemDb>,
    local: MemberId,
    /// The round that other members take part in.
    epoch: Epoch,
    sent: VecDeque<Vec<u8>>,
    seconds: u32,
    shown: String,
}

impl Stage {
    fn new() -> Self {
        let mut app = Dcdb::new();
        app.set_quorate(true);
        Self {
            dfsm: Dfsm::new(app),
            dbs: BTreeMap::from([("ours".to_owned(), MemDb::new())]),
            local: MemberId { node: 0, pid: 0 },
            epoch: Epoch::default(),
            sent: VecDeque::new(),
            seconds: 0,
            shown: String::new(),
        }
    }

    fn now(&self) -> Now {
        Now { unix: BEGIN + self.seconds, uptime: Duration::from_secs(self.seconds.into()) }
    }

    fn db(&mut self, name: &str) -> &mut MemDb {
        self.dbs.get_mut(name).unwrap_or_else(|| panic!("no database {name}"))
    }

    fn handle(&mut self, event: Event<'_>) {
        let now = self.now();
        let ours = self.dbs.get_mut("ours").expect("is there");
        let effects = self.dfsm.handle(ours, event, now);
        self.show_effects(effects);
    }

    /// A request that expires after a minute.
    fn submit(&mut self, request: Request, ticket: Option<Ticket>) {
        let (now, ours) = (self.now(), &self.dbs["ours"]);
        let submission = Submission { request, ticket, expires: now.uptime + Duration::from_secs(60) };
        let effects = self.dfsm.submit(submission, now, |app, request| app.check(ours, request));
        self.show_effects(effects);
    }

    fn show_effects(&mut self, effects: Vec<Effect<Dcdb>>) {
        for effect in effects {
            let line = match effect {
                Effect::Send(frame) => {
                    let bytes = frame.to_vec();
                    let line = format!("send {}", describe(&bytes));
                    self.sent.push_back(bytes);
                    line
                }
                Effect::Mode(mode) => format!("mode {mode:?}"),
                Effect::Left => "left".to_owned(),
                Effect::Answer { ticket, result } => {
                    let result = match result {
                        Ok(Ok(applied)) => format!("ok, inode {} at {}", applied.inode, applied.offset),
                        Ok(Err(refused)) => format!("refused: {refused}"),
                        Err(abandoned) => format!("abandoned: {abandoned}"),
                    };
                    format!("answer {} {result}", ticket.0)
                }
                Effect::Log(level, text) => format!("log {level:?}: {text}"),
                Effect::App(DcdbEffect::Changed { by, count, applied, .. }) => {
                    format!("changed by {by} message {count}: inode {}", applied.inode)
                }
                Effect::App(DcdbEffect::TreeReplaced { leader, .. }) => {
                    format!("replaced by that of {leader}")
                }
                Effect::App(DcdbEffect::ExportConfig { changed_here }) => {
                    format!("export corosync.conf, changed here: {changed_here}")
                }
            };
            self.show(&line);
        }
    }

    /// Each entry of a database as an update has it.
    fn updates(&mut self, name: &str) -> Vec<Vec<u8>> {
        let update = |entry| {
            let mut payload = Pieces::default();
            encode_update(entry, &mut payload);
            payload.to_vec()
        };
        self.db(name).all_entries().map(update).collect()
    }

    fn show(&mut self, line: &str) {
        writeln!(self.shown, "{line}").expect("a String");
    }

    fn deliver_sync(&mut self, from: &str, kind: SyncKind, extension: Extension, payload: &[u8]) {
        let base = self.base(kind as u16, 0, extension);
        let bytes = Sync { base, epoch: self.epoch, payload }.encode();
        self.handle(Event::Deliver { from: member(from), bytes: &bytes });
    }

    fn base(&self, kind: u16, subtype: u16, extension: Extension) -> Base {
        Base { kind, subtype, protocol_version: 1, time: BEGIN + self.seconds, extension }
    }

    fn event(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["quorum", yes] => self.dfsm.app_mut().set_quorate(*yes == "yes"),
            ["join", id] => {
                self.local = member(id);
                self.handle(Event::Join(self.local));
            }
            ["confchg", members @ ..] => {
                let (members, joined) = match members {
                    [members @ .., "joined"] => (members, true),
                    members => (members, false),
                };
                let members: Vec<MemberId> = members.iter().map(|id| member(id)).collect();
                self.handle(Event::Confchg { members: &members, joined });
            }
            ["back"] => {
                while let Some(bytes) = self.sent.pop_front() {
                    if let Ok(Message::Sync(sync)) = Message::decode(&bytes, 1) {
                        self.epoch = sync.epoch;
                    }
                    self.handle(Event::Deliver { from: self.local, bytes: &bytes });
                }
            }
            ["lost"] => self.sent.clear(),
            ["start", from, counter] => {
                let MemberId { node, pid } = member(from);
                self.epoch = Epoch { counter: number(counter), time: BEGIN, node, pid };
                self.deliver_sync(from, SyncKind::Start, Extension::default(), &[]);
            }
            ["state", from, name] => {
                let index = self.db(name).index().encode();
                self.deliver_sync(from, SyncKind::State, dcdb_wire::UNDERSTOOD, &index);
            }
            // A stock node's has no extension.
            ["stock-state", from, name] => {
                let index = self.db(name).index().encode();
                self.deliver_sync(from, SyncKind::State, Extension::default(), &index);
            }
            ["updates", from, name] => {
                for update in self.updates(name) {
                    self.deliver_sync(from, SyncKind::Update, Extension::default(), &update);
                }
            }
            ["packed-updates", from, name] => {
                let updates = self.updates(name).concat();
                self.deliver_sync(from, SyncKind::Update, Extension::default(), &updates);
            }
            ["complete", from] => {
                self.deliver_sync(from, SyncKind::UpdateComplete, Extension::default(), &[]);
            }
            ["verify-request", from, id] => {
                let id = u64::from(number(id)).to_le_bytes();
                self.deliver_sync(from, SyncKind::VerifyRequest, Extension::default(), &id);
            }
            ["verify", from, id, name] => {
                let checksum = self.db(name).checksum();
                let payload = [u64::from(number(id)).to_le_bytes().as_slice(), &checksum].concat();
                self.deliver_sync(from, SyncKind::Verify, Extension::default(), &payload);
            }
            ["tree"] => self.show_tree(),
            _ => self.other_event(&words),
        }
    }

    fn other_event(&mut self, words: &[&str]) {
        match words {
            ["normal", from, count, change @ ..] => {
                let request = self.request(change);
                let request = self.dfsm.app().check(&self.dbs["ours"], request).expect("is quorate");
                let out = Dcdb::encode(request, dcdb_wire::UNDERSTOOD);
                let body = out.body.map_or_else(Vec::new, |body| body.to_vec());
                let base = self.base(0, out.subtype, out.extension);
                let payload = &[out.head, body].concat();
                let bytes = Normal { base, count: number(count).into(), payload }.encode();
                self.handle(Event::Deliver { from: member(from), bytes: &bytes });
            }
            ["raw", from, hex] => {
                let bytes: Vec<u8> = hex.as_bytes().chunks(2).map(unhex).collect();
                self.handle(Event::Deliver { from: member(from), bytes: &bytes });
            }
            ["submit", ticket, change @ ..] => {
                let (request, ticket) = (self.request(change), Ticket(number(ticket).into()));
                self.submit(request, Some(ticket));
            }
            ["expire", path] => {
                let request = self.request(&["expire", path]);
                self.submit(request, None);
            }
            ["send-failed", "normal", count] => {
                self.handle(Event::SendFailed(Purpose::Normal(number(count).into())));
            }
            ["send-failed", kind] => {
                let kind = match *kind {
                    "start" => SyncKind::Start,
                    "state" => SyncKind::State,
                    "verify-request" => SyncKind::VerifyRequest,
                    other => panic!("a message {other}"),
                };
                self.handle(Event::SendFailed(Purpose::Sync(kind)));
            }
            ["store-failed"] => self.handle(Event::StoreFailed),
            ["store-broken"] => self.handle(Event::StoreBroken),
            ["tick", seconds] => {
                self.seconds += number(seconds);
                self.handle(Event::Tick);
            }
            ["db", name, "=", other] => {
                let copy = self.db(other).clone();
                self.dbs.insert((*name).to_owned(), copy);
            }
            ["db", name, change @ ..] => {
                let Request::Change(change) = self.request(change) else { panic!("no change") };
                let stamp = Stamp { writer: 7, time: BEGIN + self.seconds };
                self.db(name).apply(change, stamp, Limits::Agreed, Duration::ZERO).expect("applies");
            }
            other => panic!("what is {other:?}"),
        }
    }

    fn request(&self, words: &[&str]) -> Request {
        let lock = |path: &&str| {
            let db = &self.dbs["ours"];
            let inode = db.resolve(path.as_bytes()).expect("is there").inode;
            db.entry_checksum(inode).expect("is there")
        };
        let data = |text: &&str| text.as_bytes().to_vec();
        Request::Change(match words {
            ["create", path] => Change::Create { path: (*path).into() },
            ["mkdir", path] => Change::Mkdir { path: (*path).into() },
            ["delete", path] => Change::Delete { path: (*path).into() },
            ["rename", from, to] => Change::Rename { from: (*from).into(), to: (*to).into() },
            ["write", path, offset, text] => {
                let at = WriteAt::Offset(number(offset).into());
                Change::Write { path: (*path).into(), at, data: data(text) }
            }
            ["append", path, text] => {
                Change::Write { path: (*path).into(), at: WriteAt::End, data: data(text) }
            }
            ["descriptor", path, change @ ..] => {
                let inode = self.dbs["ours"].resolve(path.as_bytes()).expect("is there").inode;
                let change = match change {
                    ["write", offset, text] => {
                        let at = WriteAt::Offset(number(offset).into());
                        EntryChange::Write { at, data: data(text).into() }
                    }
                    ["append", text] => EntryChange::Write { at: WriteAt::End, data: data(text).into() },
                    ["truncate", size] => EntryChange::Truncate { size: number(size).into() },
                    ["mtime", time] => EntryChange::SetMtime { mtime: number(time) },
                    other => panic!("a change {other:?} by descriptor"),
                };
                Change::Entry { inode, place: None, change }
            }
            ["truncate", path, size] => Change::Truncate { path: (*path).into(), size: number(size).into() },
            ["mtime", path, time] => Change::SetMtime { path: (*path).into(), mtime: number(time) },
            ["unlock", path] => Change::Unlock { path: (*path).into(), checksum: lock(path) },
            ["expire", path] => return Request::Expire { path: (*path).into(), checksum: lock(path) },
            other => panic!("a change {other:?}"),
        })
    }

    fn show_tree(&mut self) {
        let db = self.db("ours");
        let mut lines = Vec::new();
        for entry in db.all_entries() {
            let path = db.path_of(entry.inode).expect("has a path");
            let content = entry.content().map_or("/".into(), |content| String::from_utf8_lossy(content));
            let (inode, version, writer, mtime) = (entry.inode, entry.version, entry.writer, entry.mtime);
            lines.push(format!(
                "  {inode} {path} version {version} writer {writer} mtime {mtime} {content:?}"
            ));
        }
        lines.iter().for_each(|line| self.show(line));
    }
}

fn member(text: &str) -> MemberId {
    let (node, pid) = text.split_once('/').expect("NODE/PID");
    MemberId { node: number(node), pid: number(pid) }
}

fn number(text: &str) -> u32 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn unhex(pair: &[u8]) -> u8 {
    let text = std::str::from_utf8(pair).expect("ASCII");
    u8::from_str_radix(text, 16).expect("hex")
}

/// A message for a reader.
fn describe(bytes: &[u8]) -> String {
    match Message::decode(bytes, 1).expect("ours are well-formed") {
        Message::Normal(normal) => {
            let base = normal.base;
            let request =
                Request::decode(base.subtype, base.extension, normal.payload).expect("is a request");
            let request = match request {
                Request::Change(Change::Unlock { path, .. }) => format!("unlock {path}"),
                Request::Expire { path, .. } => format!("expire {path}"),
                Request::Change(change) => format!("{change:?}"),
                other @ (Request::Append { .. } | Request::Entry { .. }) => format!("{other:?}"),
            };
            format!("message {}: {request}", normal.count)
        }
        Message::Sync(sync) => {
            let what = match SyncKind::of(sync.base.kind).expect("is known") {
                SyncKind::Start => "sync start".to_owned(),
                SyncKind::State => {
                    let index = Index::decode(sync.payload).expect("is an index");
                    format!("state: version {}, {} entries", index.version, index.entries.len())
                }
                SyncKind::Update => {
                    let mut entries = Vec::new();
                    let entry = |row: Row| {
                        entries.push(format!("inode {} {:?}", row.inode, String::from_utf8_lossy(&row.name)));
                    };
                    decode_updates(sync.payload, entry).expect("are entries");
                    format!("update: {}", entries.join(", "))
                }
                SyncKind::UpdateComplete => "update complete".to_owned(),
                SyncKind::VerifyRequest => {
                    format!("verify request {}", sync.verify_request().expect("has a number"))
                }
                SyncKind::Verify => format!("verify {}", sync.verify().expect("has a checksum").0),
            };
            format!("{what} (epoch {})", sync.epoch)
        }
    }
}

/// A file of stories with what happens now: of each paragraph the events, `----`, the effects.
fn retell(text: &str) -> String {
    let mut told = Vec::new();
    let mut stage = Stage::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let events = paragraph.lines().take_while(|line| *line != "----");
        let mut lines: Vec<String> = Vec::new();
        for line in events {
            lines.push(line.to_owned());
            if line.starts_with("== ") {
                stage = Stage::new();
            } else if !line.starts_with('#') {
                stage.event(line);
            }
        }
        lines.push("----".to_owned());
        lines.extend(std::mem::take(&mut stage.shown).lines().map(str::to_owned));
        told.push(lines.join("\n"));
    }
    told.join("\n\n") + "\n"
}

#[test]
fn stories() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&dir).expect("is there").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 5, "the stories were not found");
    for file in files {
        let text = fs::read_to_string(&file).expect("UTF-8");
        let told = retell(&text);
        if std::env::var_os("UPDATE_STORIES").is_some() {
            fs::write(&file, &told).expect("writable");
        } else if told != text {
            let differs = told.lines().zip(text.lines()).position(|(now, then)| now != then);
            let at = differs.unwrap_or(told.lines().count().min(text.lines().count()));
            let name = file.file_name().expect("has a name").to_string_lossy();
            let now: Vec<&str> = told.lines().skip(at.saturating_sub(3)).take(12).collect();
            panic!("{name}, line {}: now\n{}\n", at + 1, now.join("\n"));
        }
    }
}
