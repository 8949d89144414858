//! Which library a program has got.

use std::ffi::c_char;

/// The version of the library as text, "0.2.0" for example; PMXCFS_VERSION is that of the header. Never
/// NULL. The text is static: never free it.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn pmxcfs_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The version of the library as a number, to be compared with PMXCFS_VERSION_NUMBER: 2000 for 0.2.0,
/// 1002003 for 1.2.3.
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub extern "C" fn pmxcfs_version_number() -> u32 {
    VERSION_NUMBER
}

/// Version of the package as a number.
pub const VERSION_NUMBER: u32 = number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
    + number(env!("CARGO_PKG_VERSION_MINOR")) * 1000
    + number(env!("CARGO_PKG_VERSION_PATCH"));

/// Parses a decimal number at compile time.
const fn number(text: &str) -> u32 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_number_has_a_thousand_per_part() {
        let parts: Vec<u32> =
            env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
        assert_eq!(pmxcfs_version_number(), (parts[0] * 1000 + parts[1]) * 1000 + parts[2]);
        assert_eq!(number("120"), 120);
    }
}
