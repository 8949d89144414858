//! Names the shared library, and keeps it in memory once it is loaded: its SIGBUS handler and its
//! thread-local texts must not vanish below a program that closes it.

/// The number of the binary interface. Goes up when a program that was built against the library could no
/// longer run with it, whatever the version of the project does. The Makefile reads it here; packages
/// are named after it.
const ABI: &str = "1";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpmxcfs.so.{ABI}");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
