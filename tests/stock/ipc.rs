//! The same requests to both services, by the stock libqb client: the same errnos and the same data.

use crate::daemon::Side;
use crate::host::{Host, Served};
use crate::operation::{Actor, Content, Operation, Place};
use crate::random::{Random, number, seed};
use crate::stock_binary;
use crate::support::{Program, public_stock_program, run};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Random requests, after the recorded ones.
const REQUESTS: u64 = 3000;

const LOG: i32 = 7;

/// A request that is refused, and a length of its body by which it nearly fills the ring of requests.
const UNKNOWN: i32 = 99;
const RING_BYTES: usize = 1_040_000;

/// The stock daemon keeps the text of this one for two seconds.
const GET_RRD_DUMP: i32 = 10;
const RRD_TEXT_AGE: Duration = Duration::from_millis(2100);

const WWW_DATA: u32 = 33;
const STRANGER: u32 = 65534;

/// One request.
#[derive(Clone)]
struct Request {
    id: i32,
    body: Vec<u8>,
}

impl Request {
    fn new(id: i32, body: impl Into<Vec<u8>>) -> Self {
        Self { id, body: body.into() }
    }

    fn text(&self) -> String {
        format!("request {} '{}'", self.id, self.body[..self.body.len().min(600)].escape_ascii())
    }

    fn line(&self) -> String {
        let mut line = format!("{} ", self.id);
        if self.body.is_empty() {
            line.push('-');
        }
        self.body.iter().for_each(|byte| write!(line, "{byte:02x}").expect("into memory"));
        line
    }
}

/// Error and data.
#[derive(Clone, PartialEq, Eq)]
struct Answer {
    error: i32,
    data: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        format!("error {}, {} bytes '{}'", self.error, self.data.len(), self.data.escape_ascii())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.data).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A connected stock client.
struct Client(Program);

impl Client {
    fn connect(served: &Served, program: &Path, user: u32) -> Self {
        let program = served.daemon.inside(|| {
            let mut command = Command::new(program);
            command.args(["ask", "pve2"]).current_dir("/").uid(user).gid(user);
            Ok(Program::start(&mut command))
        });
        let mut program = program.unwrap_or_else(|failure| panic!("{failure}"));
        program.expect("connected 1");
        Self(program)
    }

    fn ask(&mut self, request: &Request) -> Answer {
        self.0.say(&request.line());
        let line = self.0.line();
        let Some((error, hex)) = line.split_once(' ') else {
            panic!("{}: the client ended", request.text());
        };
        Answer { error: error.parse().expect("a number"), data: bytes(hex) }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.trim_matches('-').as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

/// What an answer says, without what is of the moment, of the process, or of the order of a hash table.
fn meaning(id: i32, answer: &Answer) -> (i32, Value) {
    let Answer { error, data } = answer;
    let value = match id {
        _ if *error != 0 || data.is_empty() => Value::Null,
        1 => {
            let mut version = answer.json();
            assert!(version["starttime"].take().is_u64());
            version
        }
        2 | 3 | 11 | 13 => answer.json(),
        8 => {
            let mut log = answer.json();
            for entry in log["data"].as_array_mut().expect("entries") {
                assert!(entry["time"].take().is_u64() && entry["pid"].take().is_u64());
            }
            log
        }
        10 => {
            let text = data.escape_ascii().to_string();
            let mut lines: Vec<&str> = text.split("\\n").collect();
            lines.sort_unstable();
            lines.into()
        }
        _ => data.escape_ascii().to_string().into(),
    };
    (*error, value)
}

/// Both services, with clients of each kind.
struct Pair {
    stock: [Client; 2],
    ours: [Client; 2],
}

impl Pair {
    fn ask(&mut self, user: usize, request: &Request) {
        let (mut stock, mut ours) = (self.stock[user].ask(request), self.ours[user].ask(request));
        if request.id == LOG && stock.error == -libc::EINVAL && ours.error == 0 {
            // It looks at the byte behind a message, which may be left from an earlier request.
            for _ in 0..2 {
                self.stock[user].ask(&Request::new(UNKNOWN, vec![0; RING_BYTES]));
            }
            stock = self.stock[user].ask(request);
        }
        let same = |stock: &Answer, ours: &Answer| meaning(request.id, stock) == meaning(request.id, ours);
        if !same(&stock, &ours) && request.id == GET_RRD_DUMP {
            thread::sleep(RRD_TEXT_AGE);
            (stock, ours) = (self.stock[user].ask(request), self.ours[user].ask(request));
        }
        let who = ["root", "www-data"][user];
        assert!(
            same(&stock, &ours),
            "{who}: {}\n  stock {}\n  ours  {}",
            request.text(),
            stock.text(),
            ours.text()
        );
    }
}

const GUESTS: [(&str, &str); 5] = [
    ("nodes/bench1/qemu-server/100.conf", "memory: 512\nname: a\nlock: \n tags : x\nname: b  \n"),
    ("nodes/bench1/qemu-server/102.conf", "name: nonl"),
    (
        "nodes/n2/lxc/101.conf",
        "arch: amd64\nname: \\weird \"x\"  \nmemory: 128\n[snap]\nname: hidden\nlock: y\n",
    ),
    ("nodes/n2/qemu-server/4294967295.conf", "tags: \t a;b \r\n\n\nmemory:1\nname: \u{fc}\n"),
    ("nodes/n2/openvz/103.conf", "[all]\nname: hidden\n"),
];

const TOKENS: &str = "root@pam!t0 aaa\nroot@pam!t1 11111111-2222-3333-4444-555555555555\n\n a!b c ";

/// The same files, by the same changes: the counters are compared, too.
fn fill(served: &Served) {
    let mut actor = Actor::new(served.root());
    for path in crate::random::DIRECTORIES {
        actor.act(&Operation::Mkdir { path: Place::new(path) }).expect("a new tree");
    }
    for (path, text) in
        GUESTS.into_iter().chain([("priv/token.cfg", TOKENS), ("storage.cfg", "dir: local\n")])
    {
        fs::write(served.path(path), text).expect("written");
    }
    for (path, length) in [("empty.cfg", 0), ("d/long", 100_000)] {
        let path = Place::new(path.as_bytes());
        actor.act(&Operation::Replace { path, content: Content { seed: 1, length } }).expect("written");
    }
}

/// Those that were recorded once, in their order.
fn recorded() -> Vec<Request> {
    let request = |line| {
        let json: Value = serde_json::from_str(line).expect("a JSON line");
        let id = i32::try_from(json["op"].as_i64().expect("a number")).expect("32 bits");
        Request::new(id, bytes(json["req"].as_str().expect("hex")))
    };
    let all = include_str!("../golden/ipc.jsonl").lines().map(request);
    // A lone backslash makes stock's log one that is not JSON.
    all.filter(|request| request.id != 7 || !request.body.contains(&b'\\')).collect()
}

/// Makes requests that are mostly right, of everything that both daemons have.
struct Maker(Random);

impl Maker {
    fn request(&mut self) -> Request {
        let random = &mut self.0;
        let id = random.pick(&[1, 2, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8, 11, 11, 12, 12, 13, 13, 14]);
        // Here it may have to be waited for.
        let id = if random.one_in(300) { GET_RRD_DUMP } else { id };
        let mut body = match id {
            4 => self.status_to_set(),
            5 => [self.padded(STATUS_NAMES), self.padded(&[b"", b"bench1", b"n2", b"\xff"])].concat(),
            6 => self.0.pick(PATHS).to_vec(),
            // Stock looks at bytes behind a message that is not whole.
            7 => return Request::new(LOG, self.log_message()),
            8 => {
                let max = self.0.pick(&[0u32, 1, 2, 10, 51, u32::MAX]);
                [&max.to_ne_bytes()[..], &[0; 12], self.0.pick(USERS), &[0]].concat()
            }
            11 => {
                let property = self.0.pick(PROPERTIES);
                [&self.vmid()[..], property, &[0]].concat()
            }
            12 => [self.0.pick(TOKEN_LINES), &[0]].concat(),
            13 => self.properties(),
            _ => Vec::new(),
        };
        match self.0.below(12) {
            0 => body.push(self.0.below(3) as u8),
            1 if id != 13 => drop(body.pop()),
            2 if id == 4 || id == 5 => body.truncate(self.0.below(body.len())),
            3 if self.0.one_in(3) => return Request::new(self.0.pick(OTHER_IDS), body),
            _ => {}
        }
        // Stock reads on behind these when they are cut.
        let least = if id == 13 { 6 } else { 0 };
        body.resize(body.len().max(least), 0);
        Request::new(id, body)
    }

    /// A name in its field of 256 bytes.
    fn padded(&mut self, names: &[&[u8]]) -> Vec<u8> {
        let mut field = self.0.pick(names).to_vec();
        field.resize(256, 0);
        field
    }

    fn status_to_set(&mut self) -> Vec<u8> {
        let mut body = self.padded(STATUS_NAMES);
        let length = self.0.pick(&[0, 0, 1, 5, 20, 300, 4095, 4096, 32_768, 32_769]);
        let fill = self.0.pick(b"1a:\n\0");
        body.extend(std::iter::repeat_n(fill, length));
        if self.0.one_in(2) {
            body.extend_from_slice(self.0.pick(&[&b"10.0.0.1\0"[..], b"1700000000:1:2:3\0", b"text"]));
        }
        body
    }

    fn log_message(&mut self) -> Vec<u8> {
        let priority = self.0.pick(&[0u8, 3, 6, 7, 8, 255]);
        // Stock writes these two as they are, JSON or not.
        let (ident, tag) = (self.0.pick(&USERS[1..]), self.0.pick(&[&b"t"[..], b"pvedaemon", b"a tag"]));
        let lengths = [ident.len() as u8 + 1, tag.len() as u8 + 1];
        let message = self.0.pick(MESSAGES);
        [&[priority], &lengths[..], ident, &[0], tag, &[0], message, &[0]].concat()
    }

    fn vmid(&mut self) -> [u8; 4] {
        self.0.pick(&[0u32, 0, 1, 99, 100, 101, 102, 103, 4711, u32::MAX]).to_ne_bytes()
    }

    fn properties(&mut self) -> Vec<u8> {
        let names: Vec<&[u8]> = (0..self.0.below(4)).map(|_| self.0.pick(PROPERTIES)).collect();
        let mut body = self.vmid().to_vec();
        body.push(names.len() as u8);
        names.iter().for_each(|name| body.extend([name, &[0][..]].concat()));
        body
    }
}

/// Not that of a message to log, whose lengths stock does not check all.
const OTHER_IDS: &[i32] = &[0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 15, 100, -4, i32::MAX, i32::MIN];
const STATUS_NAMES: &[&[u8]] = &[
    b"kv/a",
    b"kv/b",
    b"plain",
    b"",
    b"a/b/c",
    b"nodeip",
    b"rrd/pve2-node/bench1",
    b"rrd/pve-node-9.0/bench1",
    b"rrd/pve-vm-9.0/100",
    b"rrd/unknown/x",
    b"rrd/",
    &[b'n'; 255],
    &[b'n'; 256],
];
const PATHS: &[&[u8]] = &[
    b"storage.cfg\0",
    b"/storage.cfg\0",
    b"//storage.cfg\0",
    b"storage.cfg/\0",
    b"storage.cfg\0more\0",
    b"empty.cfg\0",
    b"d/long\0",
    b"d//long\0",
    b"d/./long\0",
    b"d/../d/long\0",
    b"d\0",
    b"\0",
    b"/\0",
    b".\0",
    b"priv/token.cfg\0",
    b"/priv/token.cfg\0",
    b"//priv/token.cfg\0",
    b"priv//token.cfg\0",
    b"priv\0",
    b"priv2\0",
    b"nodes/bench1/priv/x\0",
    b"nodes/bench1/qemu-server/100.conf\0",
    b"qemu-server/100.conf\0",
    b".version\0",
    b"missing\0",
];
const USERS: &[&[u8]] = &[b"", b"root@pam", b"root", b"a b@pve!t"];
const MESSAGES: &[&[u8]] = &[
    b"",
    b"a message",
    b"quoted \"text\"",
    b"gr\xc3\xbc\xc3\x9fe \xe2\x82\xac \xf0\x9f\x98\x80 \t end",
    b"bad \xff byte \x01\x1f\x7f",
    b"escaped \\u00fc",
    b"two\nlines\r",
    &[b'm'; 300],
    &[b'm'; 4000],
    &[b'm'; 20_000],
];
const PROPERTIES: &[&[u8]] =
    &[b"name", b"memory", b"tags", b"lock", b"arch", b"none", b"Name", b"", b"1", b"n"];
const TOKEN_LINES: &[&[u8]] = &[
    b"root@pam!t0 aaa",
    b"root@pam!t1 11111111-2222-3333-4444-555555555555",
    b"root@pam!t1 1111",
    b" a!b c ",
    b"a!b c",
    b"",
    b"x\ny",
    b"x\0y",
];

#[test]
fn requests_have_the_same_answers() {
    let Some(binary) = stock_binary() else { return };
    let (stock_host, our_host) = (Host::new(), Host::new());
    let (stock, ours) = (stock_host.start(&Side::Stock(binary)), our_host.start(&Side::Ours));
    fill(&stock);
    fill(&ours);
    let (_dir, program) = public_stock_program();
    let clients = |served| [0, WWW_DATA].map(|user| Client::connect(served, &program, user));
    let mut pair = Pair { stock: clients(&stock), ours: clients(&ours) };
    for user in [0, 1] {
        for request in recorded() {
            pair.ask(user, &request);
        }
    }
    let mut maker = Maker(Random::new(seed()));
    for _ in 0..number("STOCK_STEPS").unwrap_or(REQUESTS) {
        let user = usize::from(maker.0.one_in(4));
        pair.ask(user, &maker.request());
    }
    for request in [1, 2, 3, 10].map(|id| Request::new(id, [])) {
        pair.ask(0, &request);
    }
    drop(pair);

    // Stock refuses them with an errno of no meaning.
    assert_ne!(errno_of_stranger(&stock, &program), 0);
    assert_eq!(errno_of_stranger(&ours, &program), libc::EACCES);
    stock.stop();
    ours.stop();
}

fn errno_of_stranger(served: &Served, program: &Path) -> i32 {
    let output = served.daemon.inside(|| {
        let mut command = Command::new(program);
        command.args(["refused", "pve2"]).current_dir("/").uid(STRANGER).gid(STRANGER);
        Ok(run(&mut command))
    });
    let output = output.unwrap_or_else(|failure| panic!("{failure}"));
    let errno = output.trim().strip_prefix("errno ").and_then(|errno| errno.parse().ok());
    errno.expect("a line with the errno")
}
