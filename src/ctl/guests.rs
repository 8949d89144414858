//! The guests of the cluster.

use super::CtlError;
use super::daemon::{Daemon, NoAnswer};
use super::options::{GuestFilter, Options};
use super::text::{plain, print_json, shown, table};
use crate::ipc::calls;
use crate::ipc::ops::Op;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Where the kinds of guests have their names.
const NAMES: [&str; 2] = ["name", "hostname"];

pub(super) fn run(options: &Options, filter: &GuestFilter, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut daemon = Daemon::connect(options)?;
    let list = daemon.ask_json(Op::GetGuestList, &[], "the guest list")?;
    let wanted: Vec<&str> = NAMES.into_iter().chain(filter.properties.iter().map(String::as_str)).collect();
    let properties = properties(&mut daemon, None, &wanted)?;
    let guests = sorted(&list["ids"], filter);
    if options.json {
        let guests = guests.iter().map(|(vmid, guest)| as_json(*vmid, guest, &properties[vmid.to_string()]));
        return Ok(print_json(out, &guests.collect())?);
    }
    let heads = ["VMID", "TYPE", "NODE", "NAME"].map(str::to_owned).into_iter();
    let mut rows: Vec<Vec<String>> =
        vec![heads.chain(filter.properties.iter().map(|name| plain(name))).collect()];
    for (vmid, guest) in guests {
        let own = &properties[vmid.to_string()];
        let known = |name: &str| own[name].as_str().map(plain).unwrap_or_default();
        let mut row = vec![vmid.to_string(), shown(&guest["type"]), shown(&guest["node"])];
        row.push(NAMES.into_iter().map(known).find(|name| !name.is_empty()).unwrap_or_default());
        row.extend(filter.properties.iter().map(|name| known(name)));
        rows.push(row);
    }
    Ok(table(out, &rows)?)
}

/// Properties of guests, as the daemon answers: an object by VMID.
pub(super) fn properties(
    daemon: &mut Daemon<'_>,
    vmid: Option<u32>,
    names: &[&str],
) -> Result<Value, CtlError> {
    let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    let body = calls::get_guest_config_properties(vmid.unwrap_or(0), &names);
    let body = body.map_err(|error| CtlError::Usage(error.to_string()))?;
    match daemon.ask_json(Op::GetGuestConfigProperties, &body, "properties of guests") {
        Err(NoAnswer::Missing) => Err(CtlError::Failed(format!("there is no guest {}", vmid.unwrap_or(0)))),
        other => Ok(other?),
    }
}

fn sorted<'a>(ids: &'a Value, filter: &GuestFilter) -> BTreeMap<u32, &'a Value> {
    let all = ids.as_object().into_iter().flatten();
    let wanted = |guest: &Value| filter.node.as_ref().is_none_or(|node| guest["node"] == node.as_str());
    all.filter(|(_, guest)| wanted(guest))
        .filter_map(|(vmid, guest)| Some((vmid.parse().ok()?, guest)))
        .collect()
}

fn as_json(vmid: u32, guest: &Value, properties: &Value) -> Value {
    let none = Map::new();
    let properties = properties.as_object().unwrap_or(&none);
    json!({ "vmid": vmid, "type": guest["type"], "node": guest["node"], "version": guest["version"], "properties": properties })
}
