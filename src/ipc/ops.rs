//! The numbers of the requests of the `pve2` service: the one list of them. 9 was never given. Stock
//! daemons have those below [`OURS`], and answer all others with ECHRNG.

/// Requests from this number up are our own.
pub const OURS: i32 = 64;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// What a client asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Op {
            $($(#[$doc])* $name = $id,)*
        }

        impl Op {
            /// Every request there is, by number.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// The request that a client means by `id`.
            pub fn from_id(id: i32) -> Option<Op> {
                match id {
                    $($id => Some(Op::$name),)*
                    _ => None,
                }
            }
        }
    };
}

ops! {
    /// The text of `.version`.
    GetFsVersion = 1,
    /// The text of `.members`.
    GetClusterInfo = 2,
    /// The text of `.vmlist`.
    GetGuestList = 3,
    /// Sets one key of this node's status.
    SetStatus = 4,
    /// One key of a node's status.
    GetStatus = 5,
    /// The contents of a file.
    GetConfig = 6,
    /// Puts an entry into the cluster log.
    LogClusterMsg = 7,
    /// The newest entries of the cluster log.
    GetClusterLog = 8,
    /// The newest values of all RRD keys.
    GetRrdDump = 10,
    /// One property of guest configs.
    GetGuestConfigProperty = 11,
    /// Whether an API token is known.
    VerifyToken = 12,
    /// Some properties of guest configs.
    GetGuestConfigProperties = 13,
    /// What this daemon is and does, as JSON.
    GetDaemonStatus = 64,
    /// What changed since a client asked last, as JSON; waits for it.
    GetChanges = 65,
}

impl Op {
    /// The number on the wire.
    pub fn id(self) -> i32 {
        self as i32
    }

    /// Whether stock daemons have it too.
    pub fn is_stock(self) -> bool {
        self.id() < OURS
    }

    /// Its name in reports: that of the variant, in lower case with underscores.
    pub fn name(self) -> String {
        let mut name = String::new();
        for c in format!("{self:?}").chars() {
            if c.is_ascii_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(c.to_ascii_lowercase());
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_means_its_op_and_no_other_number_means_any() {
        for id in -20..100 {
            let op = Op::from_id(id);
            assert_eq!(op, Op::ALL.iter().copied().find(|op| op.id() == id), "{id}");
        }
        assert_eq!(Op::ALL.iter().filter(|op| op.is_stock()).count(), 12);
        assert_eq!(Op::GetGuestConfigProperties.name(), "get_guest_config_properties");
        assert_eq!(Op::from_id(9), None);
        assert_eq!(Op::from_id(i32::MIN), None);
    }
}
