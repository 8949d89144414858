//! Makes the declarations of librrd from its installed header. It is not linked: see `src/rrd/librrd.rs`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "daemon")]
    librrd();
}

#[cfg(feature = "daemon")]
fn librrd() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    let bindings = bindgen::Builder::default()
        .header_contents("librrd.h", "#include <rrd.h>\n")
        .allowlist_function("rrd_create_r|rrd_update_r|rrd_get_error|rrd_clear_error")
        .dynamic_library_name("Librrd")
        .dynamic_link_require_all(true)
        .wrap_unsafe_ops(true)
        .generate_comments(false)
        .layout_tests(false)
        .generate()
        .expect("rrd.h could not be read: are librrd-dev and libclang-dev installed?");
    bindings.write_to_file(out.join("librrd.rs")).expect("writing into OUT_DIR");
}
