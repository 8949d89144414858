//! libqb's log, as far as clients set it up before they connect: there is none, and that is fine.

use libc::c_char;

/// The targets that libqb has without being asked: syslog, standard error, black box, standard output.
const TARGETS: i32 = 4;

/// Does nothing.
// SAFETY: the name is libqb's, for which this library stands in; the pointer is not looked at.
#[unsafe(no_mangle)]
pub extern "C" fn qb_log_init(_name: *const c_char, _facility: i32, _priority: u8) {}

/// Does nothing; -EBADF for a target that does not exist.
// SAFETY: the name is libqb's, for which this library stands in.
#[unsafe(no_mangle)]
pub extern "C" fn qb_log_ctl(target: i32, _conf_type: u32, _arg: i32) -> i32 {
    if (0..TARGETS).contains(&target) { 0 } else { -libc::EBADF }
}
