//! The tree as the kernel sees it: file operations and permission rules, without kernel types.
