//! The same requests to both services, by the stock libqb client: the same errnos and the same data.

mod maker;

use crate::daemon::Side;
use crate::host::{Host, Served};
use crate::known;
use crate::operation::{Actor, Content, Operation, Place};
use crate::public;
use crate::random::{Random, number, seed};
use crate::support::{Program, run, stock_program};
use crate::with_each_stock;
use maker::Maker;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Random requests, after the recorded ones.
const REQUESTS: u64 = 3000;

const GET_VERSIONS: i32 = 1;
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
    fn connect(served: &Served, program: &public::Copy, user: u32) -> Self {
        let program = served.daemon.inside(|| {
            let mut command = program.command_as(user, user);
            command.args(["ask", "pve2"]);
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
        GET_VERSIONS => {
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
        let same = |stock: &Answer, ours: &Answer| {
            let (stock, ours) = (meaning(request.id, stock), meaning(request.id, ours));
            stock == ours || request.id == GET_VERSIONS && known::same_counters(&stock.1, &ours.1)
        };
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

#[test]
fn requests_have_the_same_answers() {
    with_each_stock(compare_requests);
}

fn compare_requests(binary: PathBuf) {
    let (stock_host, our_host) = (Host::new(), Host::new());
    let (stock, ours) = (stock_host.start(&Side::Stock(binary)), our_host.start(&Side::Ours));
    fill(&stock);
    fill(&ours);
    let program = public::Copy::of(stock_program());
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

fn errno_of_stranger(served: &Served, program: &public::Copy) -> i32 {
    let output =
        served.daemon.inside(|| Ok(run(program.command_as(STRANGER, STRANGER).args(["refused", "pve2"]))));
    let output = output.unwrap_or_else(|failure| panic!("{failure}"));
    let errno = output.trim().strip_prefix("errno ").and_then(|errno| errno.parse().ok());
    errno.expect("a line with the errno")
}
