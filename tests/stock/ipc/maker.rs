//! Random requests.

use super::{GET_RRD_DUMP, LOG, Request};
use crate::random::Random;

/// Makes requests that are mostly right, of everything that both daemons have.
pub struct Maker(pub Random);

impl Maker {
    pub fn request(&mut self) -> Request {
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
