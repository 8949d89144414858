//! The generated nodes of the root directory: which there are, by name and by index. They hide
//! entries of the same name. A file per kind of node; the texts themselves come from [`Cfs::text`].

mod debug;
mod link;
mod text;

use super::attr::Attr;
use super::error::FsError;
use crate::cfs::{Cfs, Generated};
use crate::memdb::GuestKind;
use std::sync::Arc;

/// One generated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plug {
    /// A file that can only be read.
    Text(text::Text),
    /// `.debug`.
    Debug(debug::Debug),
    /// A symbolic link to a place of this node.
    Link(link::Link),
}

impl Plug {
    /// Its attributes at this moment.
    pub(crate) fn attr(&self, ino: u64, cfs: &Cfs) -> Attr {
        match self {
            Self::Text(text) => text.attr(ino, cfs),
            Self::Debug(debug) => debug.attr(ino, cfs),
            Self::Link(link) => link.attr(ino, cfs),
        }
    }

    /// The text that whoever opens it now reads to the end.
    pub(crate) fn open(&self, cfs: &Cfs) -> Result<Arc<[u8]>, FsError> {
        match self {
            Self::Text(text) => Ok(text.read(cfs)),
            Self::Debug(debug) => Ok(debug.read(cfs)),
            Self::Link(_) => Err(FsError::Generated),
        }
    }

    /// Writes to it; says how many bytes were taken.
    pub(crate) fn write(&self, offset: u64, data: &[u8], cfs: &Cfs) -> Result<usize, FsError> {
        match self {
            Self::Debug(debug) => debug.write(offset, data, cfs),
            Self::Text(_) | Self::Link(_) => Err(FsError::ReadOnlyText),
        }
    }

    /// Sets its size.
    pub(crate) fn truncate(&self) -> Result<(), FsError> {
        match self {
            Self::Debug(_) => Ok(()),
            Self::Text(_) => Err(FsError::ReadOnlyText),
            Self::Link(_) => Err(FsError::Generated),
        }
    }

    /// Where it points.
    pub(crate) fn target(&self) -> Result<&[u8], FsError> {
        match self {
            Self::Link(link) => Ok(link.target()),
            Self::Text(_) | Self::Debug(_) => Err(FsError::Generated),
        }
    }
}

/// All generated nodes of a mount. Their indices never change while it lasts.
#[derive(Debug)]
pub(crate) struct Plugs {
    nodes: Vec<(&'static str, Plug)>,
}

impl Plugs {
    /// The nodes of the root directory of the node `node_name`.
    pub(crate) fn new(node_name: &str) -> Self {
        let text = |name, generated| (name, Plug::Text(text::Text::new(generated)));
        let home = format!("nodes/{node_name}");
        let guests = |kind: GuestKind| {
            let target = format!("{home}/{}", kind.dir());
            (kind.dir(), Plug::Link(link::Link::new(target)))
        };
        let nodes = vec![
            text(".version", Generated::Version),
            text(".members", Generated::Members),
            text(".vmlist", Generated::VmList),
            text(".rrd", Generated::Rrd),
            text(".clusterlog", Generated::ClusterLog),
            (".debug", Plug::Debug(debug::Debug)),
            ("local", Plug::Link(link::Link::new(home.clone()))),
            guests(GuestKind::Qemu),
            guests(GuestKind::OpenVz),
            guests(GuestKind::Lxc),
        ];
        Self { nodes }
    }

    /// The node with this name in the root directory.
    pub(crate) fn find(&self, name: &[u8]) -> Option<(usize, &Plug)> {
        let index = self.nodes.iter().position(|(other, _)| other.as_bytes() == name)?;
        self.get(index).map(|plug| (index, plug))
    }

    /// The node with this index.
    pub(crate) fn get(&self, index: usize) -> Option<&Plug> {
        self.nodes.get(index).map(|(_, plug)| plug)
    }

    /// All names, in the order of the indices.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.nodes.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::{Plug, Plugs};

    #[test]
    fn names_and_indices() {
        let plugs = Plugs::new("alpha");
        for (index, name) in plugs.names().enumerate() {
            assert_eq!(plugs.find(name.as_bytes()).map(|(found, _)| found), Some(index), "{name}");
        }
        assert_eq!(plugs.names().count(), 10);
        assert!(plugs.find(b".nothing").is_none());
        assert!(plugs.get(10).is_none());
        assert!(plugs.get(usize::MAX).is_none());
    }

    #[test]
    fn links_point_home() {
        let plugs = Plugs::new("alpha");
        for (name, target) in [
            ("local", "nodes/alpha"),
            ("qemu-server", "nodes/alpha/qemu-server"),
            ("openvz", "nodes/alpha/openvz"),
            ("lxc", "nodes/alpha/lxc"),
        ] {
            let found = plugs.find(name.as_bytes()).map(|(_, plug)| plug);
            assert_eq!(found.and_then(|plug| plug.target().ok()), Some(target.as_bytes()), "{name}");
        }
        assert!(plugs.find(b".version").is_some_and(|(_, plug)| plug.target().is_err()));
        assert!(matches!(plugs.find(b".debug"), Some((_, Plug::Debug(_)))));
    }
}
