//! What the mounted tree and the IPC clients share.
