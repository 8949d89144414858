//! Hooks by which tests hold replies and replace notifications. The daemon sets none.

use super::notifier::NotificationHook;
use crate::counts::KernelRequest;
use crate::fs::LateReplies;
use std::fmt;
use std::sync::Arc;

/// Called after a request read the tree, and before its reply. It may block.
pub type ReplyHook = Arc<dyn Fn(KernelRequest) + Send + Sync>;

/// Hooks of a mount.
#[derive(Clone, Default)]
pub struct Hooks {
    /// For lookup, getattr, read, readdir and readdirplus.
    pub before_reply: Option<ReplyHook>,
    /// Replaces the sending of notifications.
    pub notification: Option<NotificationHook>,
    /// Rule for late replies, in place of the one for this kernel.
    pub late_replies: Option<LateReplies>,
}

impl Hooks {
    /// A request of this kind read the tree.
    pub(super) fn before_reply(&self, request: KernelRequest) {
        if let Some(hook) = &self.before_reply {
            hook(request);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooks")
    }
}
