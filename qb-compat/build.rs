//! Gives the library libqb's soname, so that the loader takes it for libqb, and keeps it in memory
//! once it is loaded: its SIGBUS handler must not vanish below a program that closes it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libqb.so.100");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
