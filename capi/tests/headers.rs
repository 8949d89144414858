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

/// Begin of the layout checks. Older languages have no assertions at compile time and go without.
const CHECKS_BEGIN: &str = "
#if defined(__cplusplus) && __cplusplus >= 201103L
#define PMXCFS_CHECK(fact) static_assert(fact, #fact)
#elif !defined(__cplusplus) && defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define PMXCFS_CHECK(fact) _Static_assert(fact, #fact)
#endif
#if defined(PMXCFS_CHECK) && UINTPTR_MAX > 0xffffffff
";

/// A check that the C compiler lays the structs out as this library does.
fn layout_checks() -> String {
    let mut text = String::from(CHECKS_BEGIN);
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
    text + "#endif\n#undef PMXCFS_CHECK\n"
}

/// Macros that cbindgen cannot make: texts, versions, initializers.
fn macros() -> String {
    format!(
        "
/* The version of this header. */
#define PMXCFS_VERSION \"{}\"

/* The same as a number: a million for each major version, a thousand for each minor one. */
#define PMXCFS_VERSION_NUMBER {VERSION_NUMBER}

/* The service of the daemon. */
#define PMXCFS_SERVICE \"{PMXCFS_SERVICE}\"

/* The file that exists while the daemon is being restarted. */
#define PMXCFS_RESTART_FLAG \"{PMXCFS_RESTART_FLAG}\"

/* Initializers, as constant expressions: pmxcfs_options options = PMXCFS_OPTIONS_INIT; */
#define PMXCFS_OPTIONS_INIT {{ sizeof(struct pmxcfs_options), PMXCFS_SERVICE, PMXCFS_MESSAGE_MAX, 10000, \\
    PMXCFS_NO_LIMIT, PMXCFS_RESTART_FLAG, 10000, 1 }}
#define PMXCFS_ANSWER_INIT {{ NULL, 0, 0, 0, NULL, 0 }}
",
        env!("CARGO_PKG_VERSION")
    )
}

/// Passes the caller's size of the options, so that the library never writes past their end.
const OPTIONS_INIT: &str = "
/* Sets options to the defaults. Returns 0, or -EINVAL if options is NULL. */
#define pmxcfs_options_init(options) pmxcfs_options_init_sized((options), sizeof(struct pmxcfs_options))
";

/// The header as cbindgen writes it, with all of it inside of the include guard and comments of C89.
fn finished(made: &str) -> String {
    const GUARD_END: &str = "#endif  /* PMXCFS_H */\n";
    let (body, checks) = made.split_once(GUARD_END).expect("an include guard");
    let lines = format!("{}{checks}\n{GUARD_END}", body.trim_end_matches('\n').to_owned() + "\n");
    let plain = |line: &str| match line.split_once("//") {
        Some((code, comment)) if code.starts_with(['#', '}']) => {
            format!("{} /*{comment} */\n", code.trim_end())
        }
        _ => format!("{line}\n"),
    };
    lines.lines().map(plain).collect()
}

#[test]
fn pmxcfs_h() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut config = cbindgen::Config::from_file(source.join("cbindgen.toml")).unwrap();
    config.after_includes = Some(macros());
    config.trailer = Some(OPTIONS_INIT.to_owned() + &layout_checks());
    let mut builder = cbindgen::Builder::new().with_config(config);
    // In the order in which they are to be read.
    for file in ["layout", "options", "answer", "client", "calls", "send_fd", "boundary", "version"] {
        builder = builder.with_src(source.join(format!("src/{file}.rs")));
    }
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    compare("pmxcfs.h", &finished(&String::from_utf8(made).unwrap()));
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
