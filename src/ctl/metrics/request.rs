//! One HTTP request and its response: GET and HEAD of `/metrics`, under an allowed host name. Pure functions
//! of bytes; sockets are elsewhere.
//!
//! The host name is checked because of DNS rebinding: an attacker can point the name of a web page to
//! 127.0.0.1, and a browser on this machine then lets the page read the metrics. Such a request has the
//! attacker's name in `Host`. Literal addresses and `localhost` cannot be rebound.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest request head, in bytes.
pub(super) const HEAD_MAX: usize = 8192;

/// Host names that requests may use, besides `localhost` and literal addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hosts(Vec<String>);

/// A response: status line, content type, content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    with_body: bool,
}

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a `Host` header names this machine: a name or an address, and perhaps a port.
    fn allow(&self, value: &str) -> bool {
        let value = value.to_ascii_lowercase();
        if let Some(rest) = value.strip_prefix('[') {
            let Some((address, port)) = rest.split_once(']') else { return false };
            return address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port));
        }
        let host = match value.split_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            Some(_) => return false,
            None => value.as_str(),
        };
        host == "localhost" || host.parse::<Ipv4Addr>().is_ok() || self.0.iter().any(|name| name == host)
    }
}

/// A colon and digits, or nothing.
fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Answer {
    /// The response to a client that sent no request in time.
    pub(super) fn too_late() -> Self {
        plain("408 Request Timeout", "no request in time\n")
    }

    /// The response as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { status, content_type, body, with_body } = self;
        let length = body.len();
        let body = if *with_body { body } else { "" };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// Whether a request head is complete.
pub(super) fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

/// Answers a request with this head. `metrics` is called only if the request is for them.
pub(super) fn respond(head: &[u8], hosts: &Hosts, metrics: impl FnOnce() -> String) -> Answer {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split_whitespace();
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with("HTTP/1.")) && words.next().is_none();
    let (true, Some(method), Some(target)) = (is_http && is_whole(head), method, target) else {
        return plain("400 Bad Request", "not a request of HTTP\n");
    };
    let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let mut named =
        fields.filter(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.trim());
    match (named.next(), named.next()) {
        // Only browsers can be led here by a foreign name, and browsers send `Host`.
        (None, _) if version == Some("HTTP/1.0") => {}
        (Some(host), None) if hosts.allow(host) => {}
        (Some(_), None) => {
            return plain(
                "421 Misdirected Request",
                "only for localhost, a literal address, or a name given by --host\n",
            );
        }
        _ => return plain("400 Bad Request", "exactly one host is needed\n"),
    }
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

    fn answer(head: &str) -> Answer {
        respond(head.as_bytes(), &Hosts::new(&["Node1.example".to_owned()]), || "m 1\n".to_owned())
    }

    fn status(head: &str) -> &'static str {
        answer(head).status
    }

    #[test]
    fn only_the_metrics_are_served() {
        let served = answer("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!((served.status, served.body.as_str(), served.with_body), ("200 OK", "m 1\n", true));
        let head = answer("HEAD /metrics HTTP/1.0\r\n\r\n").encode();
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("Content-Length: 4\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(status("GET /metrics?x=y HTTP/1.0\n\n"), "200 OK");
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET /metrics/../etc HTTP/1.0\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET http://x/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"), "404 Not Found");
        assert_eq!(status("POST /metrics HTTP/1.0\r\n\r\n"), "405 Method Not Allowed");
        for bad in [
            "",
            "GET",
            "GET /metrics",
            "GET /metrics HTTP/1.1\r\n",
            "GET /metrics HTTP/2\r\n\r\n",
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "GET /metrics HTTP/1.0\r\nHost: localhost\r\nhost: evil.example\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(status(bad), "400 Bad Request", "{bad:?}");
        }
    }

    #[test]
    fn foreign_host_names_are_refused() {
        let status = |host: &str| status(&format!("GET /metrics HTTP/1.1\r\nhOST:{host}\r\n\r\n"));
        for host in [
            "localhost",
            " LOCALHOST:9638 ",
            "127.0.0.1:9638",
            "10.1.2.3",
            "[::1]",
            "[fe80::1]:9638",
            "node1.example:9638",
            "NODE1.EXAMPLE",
        ] {
            assert_eq!(status(host), "200 OK", "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.",
            "127.0.0.1.evil.example",
            "evil.example:9638",
            "localhost:x",
            "localhost:1:2",
            "[::1",
            "[::1]x",
            "[evil.example]",
            "::1",
            "user@localhost",
            "node2.example",
        ] {
            assert_eq!(status(host), "421 Misdirected Request", "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = respond(&head, &Hosts::default(), String::new);
            prop_assert!(answer.status.len() > 4);
        }
    }
}
