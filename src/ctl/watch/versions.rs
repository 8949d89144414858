//! What a stock daemon lets one see of changes: it counts those of some paths, of the guest list, the node
//! list and status values. The counters are looked at once a second.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The counters at one time, by what they count.
pub(super) type Counters = BTreeMap<Counted, u64>;

/// What a counter counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    /// A path, or the guest list, or the node list.
    Name(String),
    /// A status value of a node.
    Key { node: String, key: String },
}

/// The counters in the text of versions.
pub(super) fn counters(versions: &Value) -> Counters {
    let mut counters = Counters::new();
    for (name, value) in versions.as_object().into_iter().flatten() {
        if let Some(count) = value.as_u64().filter(|_| name != "starttime") {
            counters.insert(Counted::Name(name.clone()), count);
        }
    }
    for (node, keys) in versions["kvstore"].as_object().into_iter().flatten() {
        for (key, value) in keys.as_object().into_iter().flatten() {
            let counted = Counted::Key { node: node.clone(), key: key.clone() };
            counters.extend(value.as_u64().map(|count| (counted, count)));
        }
    }
    counters
}

/// An event for each counter that is another one now.
pub(super) fn events(before: &Counters, now: &Counters) -> Vec<Value> {
    let changed = now.iter().filter(|(counted, count)| before.get(counted) != Some(count));
    let gone = before.keys().filter(|counted| !now.contains_key(counted));
    changed.map(|(counted, _)| counted).chain(gone).map(event).collect()
}

fn event(counted: &Counted) -> Value {
    match counted {
        Counted::Name(name) if name == "clinfo" => json!({ "kind": "members" }),
        Counted::Name(name) if name == "vmlist" => json!({ "kind": "guests" }),
        Counted::Name(path) => json!({ "kind": "tree", "change": "counted", "path": path }),
        Counted::Key { node, key } => json!({ "kind": "status", "node": node, "key": key }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_that_changed_is_an_event() {
        let before = json!({ "starttime": 1, "clinfo": 0, "vmlist": 1, "a.cfg": 1, "kvstore": { "n1": { "k": 0, "old": 3 } } });
        let after = json!({ "starttime": 2, "clinfo": 0, "vmlist": 2, "a.cfg": 2, "kvstore": { "n1": { "k": 1 }, "n2": { "new": 0 } } });
        let (before, after) = (counters(&before), counters(&after));
        let status = |node: &str, key: &str| json!({ "kind": "status", "node": node, "key": key });
        assert_eq!(
            events(&before, &after),
            [
                json!({ "kind": "tree", "change": "counted", "path": "a.cfg" }),
                json!({ "kind": "guests" }),
                status("n1", "k"),
                status("n2", "new"),
                status("n1", "old"),
            ]
        );
        assert_eq!(events(&after, &after), [] as [Value; 0]);
    }
}
