//! One request of HTTP on standard input, its answer on standard output: what systemd starts for each
//! connection to a socket unit with `Accept=yes`. It knows GET and HEAD of `/metrics`, reads no more than
//! it needs, and waits for nobody.

use crate::clock::Clock;
use crate::ctl::CtlError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;
use std::time::Duration;

/// The longest head of a request.
const HEAD_MAX: usize = 8192;
/// How long a request may take to come.
const TIMEOUT: Duration = Duration::from_secs(5);

/// An answer: status line, type of the content, content.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    with_body: bool,
}

/// Answers the request on standard input; `metrics` is only asked for when it is for them.
pub(super) fn serve_one(out: &mut dyn Write, metrics: impl FnOnce() -> String) -> Result<(), CtlError> {
    let answer = match read_head() {
        Ok(head) => respond(&head, metrics),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            plain("408 Request Timeout", "no request in time\n")
        }
        Err(error) => return Err(CtlError::Failed(format!("cannot read the request: {error}"))),
    };
    let Answer { status, content_type, body, with_body } = answer;
    write!(
        out,
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if with_body {
        out.write_all(body.as_bytes())?;
    }
    Ok(out.flush()?)
}

/// What was sent up to the empty line, or as much as a head may have.
fn read_head() -> io::Result<Vec<u8>> {
    let (clock, mut input) = (Clock::start(), io::stdin().lock());
    let mut head = Vec::new();
    while !is_whole(&head) && head.len() < HEAD_MAX {
        let left = TIMEOUT.checked_sub(clock.uptime()).ok_or(io::ErrorKind::TimedOut)?;
        let mut fds = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) if error != interrupted() => return Err(error.into()),
            _ => {}
        }
        // All that came, so that the socket is readable again only when there is more.
        let came = input.fill_buf()?;
        let length = came.len();
        head.extend_from_slice(came);
        input.consume(length);
        if length == 0 {
            break;
        }
    }
    Ok(head)
}

fn interrupted() -> Errno {
    crate::errno::INTERRUPTED
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

fn respond(head: &[u8], metrics: impl FnOnce() -> String) -> Answer {
    let line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1.")) && words.next().is_none();
    let (true, Some(method), Some(target)) = (is_http && is_whole(head), method, target) else {
        return plain("400 Bad Request", "not a request of HTTP\n");
    };
    if method != "GET" && method != "HEAD" {
        return plain("405 Method Not Allowed", "only GET and HEAD\n");
    }
    if target.split('?').next() != Some("/metrics") {
        return plain("404 Not Found", "the metrics are at /metrics\n");
    }
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Answer { status: "200 OK", content_type, body: metrics(), with_body: method == "GET" }
}

fn plain(status: &'static str, body: &str) -> Answer {
    Answer { status, content_type: "text/plain; charset=utf-8", body: body.to_owned(), with_body: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn status(head: &str) -> &'static str {
        respond(head.as_bytes(), || "m 1\n".to_owned()).status
    }

    #[test]
    fn only_the_metrics_are_served() {
        let answer = respond(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", || "m 1\n".to_owned());
        assert_eq!((answer.status, answer.body.as_str(), answer.with_body), ("200 OK", "m 1\n", true));
        assert!(!respond(b"HEAD /metrics HTTP/1.0\r\n\r\n", String::new).with_body);
        assert_eq!(status("GET /metrics?x=y HTTP/1.1\n\n"), "200 OK");
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET /metrics/../etc HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), "405 Method Not Allowed");
        for bad in [
            "",
            "GET",
            "GET /metrics",
            "GET /metrics HTTP/1.1\r\n",
            "GET /metrics HTTP/2\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(status(bad), "400 Bad Request", "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = respond(&head, String::new);
            prop_assert!(answer.status.len() > 4);
        }
    }
}
