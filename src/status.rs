//! The status of the nodes: key/values, members, cluster log.
