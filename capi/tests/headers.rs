//! The committed headers are what the source makes. With PMXCFS_WRITE_HEADERS set they are written
//! instead of compared.

use pmxcfs::ipc::ops::Op;
use pmxcfs_c::*;
use std::fmt::Write;
use std::mem::offset_of;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn compare(name: &str, made: &str) {
    let path = project().join("include").join(name);
    if std::env::var_os("PMXCFS_WRITE_HEADERS").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let same = made.lines().zip(committed.lines()).take_while(|(a, b)| a == b).count();
    assert!(
        made == committed,
        "include/{name} is not what the source makes, see line {}: run `make headers`",
        same + 1
    );
}

/// A check that the C compiler lays the structs out as this library does.
fn layout_checks() -> String {
    let mut text = String::from(
        "\n#ifdef __cplusplus\n#define PMXCFS_CHECK(fact) static_assert(fact, #fact)\n#else\n\
         #define PMXCFS_CHECK(fact) _Static_assert(fact, #fact)\n#endif\n",
    );
    let mut check = |fact: String| writeln!(text, "PMXCFS_CHECK({fact});").unwrap();
    macro_rules! check {
        ($($type:ident $name:literal { $($field:ident),* })*) => {$(
            check(format!("sizeof(struct {}) == {}", $name, size_of::<$type>()));
            $(check(format!(
                "offsetof(struct {}, {}) == {}",
                $name,
                stringify!($field),
                offset_of!($type, $field)
            ));)*
        )*};
    }
    check! {
        RequestHeader "pmxcfs_request_header" { id, size }
        ResponseHeader "pmxcfs_response_header" { id, size, error }
        SetStatusRequest "pmxcfs_set_status_request" { name }
        GetStatusRequest "pmxcfs_get_status_request" { name, node }
        LogClusterMsgRequest "pmxcfs_log_cluster_msg_request" { priority, ident_size, tag_size }
        GetClusterLogRequest "pmxcfs_get_cluster_log_request" { entries_max, reserved }
        GuestConfigPropertyRequest "pmxcfs_guest_config_property_request" { vmid }
        Answer "pmxcfs_answer" { data, len, id, error, memory, capacity }
        Options "pmxcfs_options" {
            size, service, message_max, connect_timeout_ms, timeout_ms, restart_flag, restart_timeout_ms,
            resend
        }
    }
    text + "#undef PMXCFS_CHECK\n"
}

#[test]
fn pmxcfs_h() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(source.join("cbindgen.toml")).unwrap();
    // cbindgen has no texts.
    config.after_includes = Some(format!(
        "\n/* The version of this header. */\n#define PMXCFS_VERSION \"{}\"\n\
         \n/* The service of the daemon. */\n#define PMXCFS_SERVICE \"{PMXCFS_SERVICE}\"\n\
         \n/* The file that is there while the daemon is being restarted. */\n\
         #define PMXCFS_RESTART_FLAG \"{PMXCFS_RESTART_FLAG}\"\n",
        env!("CARGO_PKG_VERSION")
    ));
    config.trailer = Some(layout_checks());
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which they are to be read.
    for file in ["layout", "options", "answer", "client", "calls", "send_fd", "boundary", "version"] {
        builder = builder.with_src(source.join(format!("src/{file}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    compare("pmxcfs.h", &String::from_utf8(made).unwrap());
}

/// The name of a constant in C.
fn macro_name(prefix: &str, op: Op) -> String {
    format!("{prefix}_{}", op.name().to_ascii_uppercase())
}

#[test]
fn cfs_ipc_ops_h() {
    let mut made = String::from(
        "/*\n * The numbers of the requests to pmxcfs. Perl's constants are made from the lines with #define, so\n \
         * each stands on one line.\n *\n * This file is made from the daemon's source; do not edit it.\n */\n\
         #ifndef PMXCFS_CFS_IPC_OPS_H\n#define PMXCFS_CFS_IPC_OPS_H\n\n",
    );
    for &op in Op::ALL.iter().filter(|op| op.is_stock()) {
        writeln!(made, "#define {} {}", macro_name("CFS_IPC", op), op.id()).unwrap();
    }
    made += "\n/* Requests that stock daemons answer with ECHRNG; not among Perl's constants. */\n";
    for &op in Op::ALL.iter().filter(|op| !op.is_stock()) {
        writeln!(made, "#define {} {}", macro_name("PMXCFS_IPC", op), op.id()).unwrap();
    }
    made += "\n#endif\n";
    compare("cfs-ipc-ops.h", &made);
}
