//! The binary is to run on any node as it is: a program that uses discovery needs glibc and nothing else.
#![allow(
    clippy::disallowed_methods,
    reason = "looks at its own process and at the build's folder"
)]

use std::collections::BTreeSet;
use std::path::Path;

/// The shared libraries in this process, by file name, without what their names say of versions.
fn libraries() -> BTreeSet<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own maps");
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains(".so"))
        .filter_map(|path| Path::new(path).file_name()?.to_str()?.split(".so").next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn discovery_needs_nothing_but_glibc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if root.join("target/hwloc-static/shared").exists() {
        println!("not run: this distribution has no static hwloc, so the shared one is linked");
        return;
    }
    let loaded = libraries();
    for library in &loaded {
        let expected = ["libc", "libm", "libgcc_s", "ld-linux-"];
        assert!(
            expected.iter().any(|known| library.starts_with(known)),
            "{library} is loaded; all: {loaded:?}"
        );
    }
    // The call is what makes the linker take hwloc at all.
    assert!(hpc::worker::discover::discover().is_ok());
}
