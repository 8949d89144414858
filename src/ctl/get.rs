//! One thing: a file, a status value, properties of a guest.

use super::CtlError;
use super::daemon::{Daemon, NoAnswer};
use super::guests::properties;
use super::options::{Get, Options};
use super::text::{hex, plain, print_json, shown};
use crate::ipc::calls::{self, BadArgument};
use crate::ipc::ops::Op;
use serde_json::{Value, json};
use std::io::Write;

pub(super) fn run(options: &Options, what: &Get, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut daemon = Daemon::connect(options)?;
    match what {
        Get::File(path) => {
            let data = file(&mut daemon, path)?;
            print_bytes(options, out, &json!({ "path": path }), &data)
        }
        Get::Status { key, node } => {
            let body = calls::get_status(key.as_bytes(), node.as_bytes()).map_err(wrong)?;
            let name = if node.is_empty() { "the local node" } else { node };
            let data = daemon.ask(Op::GetStatus, &body, "a status value");
            let data =
                data.map_err(|none| missing(none, || format!("{name} has no status value '{key}'")))?;
            print_bytes(options, out, &json!({ "key": key, "node": node }), &data)
        }
        Get::Guest { vmid, properties: names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let answer = properties(&mut daemon, *vmid, &names)?;
            if options.json {
                Ok(print_json(out, &answer)?)
            } else {
                print_properties(out, &answer, vmid.is_none())
            }
        }
    }
}

/// A file, generated ones included.
fn file(daemon: &mut Daemon<'_>, path: &str) -> Result<Vec<u8>, CtlError> {
    let (op, body) = match path.trim_matches('/') {
        ".version" => (Op::GetFsVersion, Vec::new()),
        ".members" => (Op::GetClusterInfo, Vec::new()),
        ".vmlist" => (Op::GetGuestList, Vec::new()),
        ".clusterlog" => (Op::GetClusterLog, calls::get_cluster_log(0, b"").map_err(wrong)?),
        _ => (Op::GetConfig, calls::get_config(path.as_bytes()).map_err(wrong)?),
    };
    let data = daemon.ask(op, &body, &format!("'{}'", plain(path)));
    data.map_err(|none| missing(none, || format!("there is no file '{}'", plain(path))))
}

fn wrong(error: BadArgument) -> CtlError {
    CtlError::Usage(error.to_string())
}

fn missing(none: NoAnswer, text: impl FnOnce() -> String) -> CtlError {
    match none {
        NoAnswer::Missing => CtlError::Failed(text()),
        other => other.into(),
    }
}

/// Bytes as they are; as JSON with what they are of, as text or, if they are none, in hexadecimal.
fn print_bytes(options: &Options, out: &mut dyn Write, of: &Value, data: &[u8]) -> Result<(), CtlError> {
    if !options.json {
        return Ok(out.write_all(data)?);
    }
    let mut document = of.clone();
    document["size"] = data.len().into();
    match std::str::from_utf8(data) {
        Ok(text) => document["text"] = text.into(),
        Err(_) => document["hex"] = hex(data).into(),
    }
    Ok(print_json(out, &document)?)
}

fn print_properties(out: &mut dyn Write, answer: &Value, with_vmid: bool) -> Result<(), CtlError> {
    for (vmid, own) in answer.as_object().into_iter().flatten() {
        for (name, value) in own.as_object().into_iter().flatten() {
            let head = if with_vmid { format!("{vmid} ") } else { String::new() };
            writeln!(out, "{head}{}: {}", plain(name), shown(value))?;
        }
    }
    Ok(())
}
