//! The bodies of the requests as a client makes them: the other direction of `requests/parse.rs`.
//! Pure. A request without a function here has no body.

/// Length of a status key and of a node name on the wire, filled up with NULs.
pub const NAME_LEN: usize = 256;
/// Length of what stands before the user's name in a request for the cluster log.
pub const LOG_HEAD_LEN: usize = 16;

/// Why there is no such request: an argument does not fit into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadArgument {
    /// A status key, a node name, or an ident or tag of a log message.
    #[error("the {what} is longer than {max} bytes")]
    TooLong {
        /// Which.
        what: &'static str,
        /// What it may have.
        max: usize,
    },
    /// Names of properties are counted in a byte.
    #[error("{0} properties asked for; 1 to 255 can be")]
    Count(usize),
    /// It would end there on the other side.
    #[error("the {0} holds a NUL")]
    Nul(&'static str),
}

/// `text`, which is called `what` and has at most `max` bytes, none of them 0.
fn checked<'a>(what: &'static str, text: &'a [u8], max: usize) -> Result<&'a [u8], BadArgument> {
    if text.len() > max {
        return Err(BadArgument::TooLong { what, max });
    }
    if text.contains(&0) {
        return Err(BadArgument::Nul(what));
    }
    Ok(text)
}

fn name(what: &'static str, text: &[u8]) -> Result<[u8; NAME_LEN], BadArgument> {
    let mut field = [0; NAME_LEN];
    let text = checked(what, text, NAME_LEN - 1)?;
    field[..text.len()].copy_from_slice(text);
    Ok(field)
}

fn terminated(what: &'static str, text: &[u8]) -> Result<Vec<u8>, BadArgument> {
    Ok([checked(what, text, usize::MAX)?, &[0]].concat())
}

/// Sets a key of this node's status.
///
/// # Errors
/// If the key is too long.
pub fn set_status(key: &[u8], value: &[u8]) -> Result<Vec<u8>, BadArgument> {
    Ok([&name("status key", key)?, value].concat())
}

/// Asks for a key of a node's status; no node is this one.
///
/// # Errors
/// If the key or the node's name is too long.
pub fn get_status(key: &[u8], node: &[u8]) -> Result<Vec<u8>, BadArgument> {
    Ok([name("status key", key)?, name("node name", node)?].concat())
}

/// Asks for a file.
///
/// # Errors
/// If the path holds a NUL.
pub fn get_config(path: &[u8]) -> Result<Vec<u8>, BadArgument> {
    terminated("path", path)
}

/// Puts an entry into the cluster log.
///
/// # Errors
/// If the ident or the tag is too long.
pub fn log_cluster_msg(
    priority: u8,
    ident: &[u8],
    tag: &[u8],
    message: &[u8],
) -> Result<Vec<u8>, BadArgument> {
    // The lengths are bytes and count the NULs.
    const LEN_MAX: usize = u8::MAX as usize - 1;
    let ident = checked("ident", ident, LEN_MAX)?;
    let tag = checked("tag", tag, LEN_MAX)?;
    let message = terminated("message", message)?;
    let head = [priority, ident.len() as u8 + 1, tag.len() as u8 + 1];
    Ok([&head, ident, &[0], tag, &[0], &message].concat())
}

/// Asks for the newest entries of the cluster log: 0 is the daemon's own number of them; no user is
/// all users.
///
/// # Errors
/// If the user's name holds a NUL.
pub fn get_cluster_log(entries_max: u32, user: &[u8]) -> Result<Vec<u8>, BadArgument> {
    let mut head = [0; LOG_HEAD_LEN];
    head[..4].copy_from_slice(&entries_max.to_ne_bytes());
    Ok([&head[..], &terminated("user name", user)?].concat())
}

/// Asks for a property of a guest; VMID 0 is all guests.
///
/// # Errors
/// If the property's name holds a NUL.
pub fn get_guest_config_property(vmid: u32, property: &[u8]) -> Result<Vec<u8>, BadArgument> {
    Ok([&vmid.to_ne_bytes()[..], &terminated("property", property)?].concat())
}

/// Asks for some properties of a guest; VMID 0 is all guests.
///
/// # Errors
/// If there are too many properties, or none, or the name of one holds a NUL.
pub fn get_guest_config_properties(vmid: u32, properties: &[&[u8]]) -> Result<Vec<u8>, BadArgument> {
    let count = u8::try_from(properties.len()).ok().filter(|&count| count > 0);
    let count = count.ok_or(BadArgument::Count(properties.len()))?;
    let mut body = [&vmid.to_ne_bytes()[..], &[count]].concat();
    for property in properties {
        body.extend(terminated("property", property)?);
    }
    Ok(body)
}

/// Asks whether an API token is known: "user!token value".
///
/// # Errors
/// If it holds a NUL.
pub fn verify_token(token: &[u8]) -> Result<Vec<u8>, BadArgument> {
    terminated("token", token)
}

/// Asks for what changed after `cursor` (0: from now on); the answer comes when there is something, or
/// after `wait_ms` at the latest.
pub fn get_changes(cursor: u64, wait_ms: u32) -> Vec<u8> {
    [&cursor.to_ne_bytes()[..], &wait_ms.to_ne_bytes()].concat()
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use super::*;
    use crate::ipc::ops::Op;
    use crate::ipc::requests::parse::{Guests, ParseError, Request};

    fn parse(op: Op, body: &[u8]) -> Result<Request<'_>, ParseError> {
        Request::parse(op.id(), body)
    }

    #[test]
    fn the_daemon_reads_what_was_meant() {
        let body = set_status(b"kv/a", b"v\0w").unwrap();
        let request = Request::SetStatus { name: b"kv/a", value: b"v\0w" };
        assert_eq!(parse(Op::SetStatus, &body), Ok(request));
        let body = get_status(b"kv/a", b"n1").unwrap();
        assert_eq!(parse(Op::GetStatus, &body), Ok(Request::GetStatus { name: b"kv/a", node: b"n1" }));
        let body = get_config(b"a/b").unwrap();
        assert_eq!(parse(Op::GetConfig, &body), Ok(Request::GetConfig { path: b"a/b" }));
        let body = log_cluster_msg(6, b"root@pam", b"test", b"text").unwrap();
        let request =
            Request::LogClusterMsg { priority: 6, ident: b"root@pam", tag: b"test", message: b"text" };
        assert_eq!(parse(Op::LogClusterMsg, &body), Ok(request));
        let body = get_cluster_log(7, b"u").unwrap();
        assert_eq!(parse(Op::GetClusterLog, &body), Ok(Request::ClusterLog { user: b"u", max_entries: 7 }));
        let request = Request::Changes { cursor: 7 << 40, wait_ms: 5000 };
        assert_eq!(parse(Op::GetChanges, &get_changes(7 << 40, 5000)), Ok(request));
        let body = verify_token(b"root@pam!x y").unwrap();
        assert_eq!(parse(Op::VerifyToken, &body), Ok(Request::VerifyToken { token: b"root@pam!x y" }));
        let request = Request::GuestProperties { guests: Guests::One(100), properties: vec![b"lock"] };
        let body = get_guest_config_property(100, b"lock").unwrap();
        assert_eq!(parse(Op::GetGuestConfigProperty, &body), Ok(request));
        let request = Request::GuestProperties { guests: Guests::All, properties: vec![b"lock", b"tags"] };
        let body = get_guest_config_properties(0, &[b"lock", b"tags"]).unwrap();
        assert_eq!(parse(Op::GetGuestConfigProperties, &body), Ok(request));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let too_long = |what, max| Err(BadArgument::TooLong { what, max });
        assert!(set_status(&[b'a'; 255], b"").is_ok());
        assert_eq!(set_status(&[b'a'; 256], b""), too_long("status key", 255));
        assert_eq!(get_status(b"a", &[b'a'; 256]), too_long("node name", 255));
        assert!(log_cluster_msg(6, &[b'a'; 254], &[b'b'; 254], b"").is_ok());
        assert_eq!(log_cluster_msg(6, &[b'a'; 255], b"", b""), too_long("ident", 254));
        assert_eq!(log_cluster_msg(6, b"", &[b'a'; 255], b""), too_long("tag", 254));
        assert_eq!(get_guest_config_properties(0, &[]), Err(BadArgument::Count(0)));
        assert!(get_guest_config_properties(0, &[b"a".as_slice(); 255]).is_ok());
        assert_eq!(get_guest_config_properties(0, &[b"a".as_slice(); 256]), Err(BadArgument::Count(256)));
        assert_eq!(get_config(b"a\0b"), Err(BadArgument::Nul("path")));
        assert_eq!(set_status(b"a\0b", b""), Err(BadArgument::Nul("status key")));
    }
}
