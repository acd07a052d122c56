//! systemd's units in a virtual machine, by `packaging/vm-test.sh`: some minutes, so only on request (`HPC_VM=1`), or
//! where the machine's disk has been made before (`make vm-test`).

use std::path::PathBuf;
use std::process::Command;

/// What the script says by its exit code: something that it needs is not here.
const MISSING: i32 = 77;

#[test]
fn the_units_of_systemd_leave_jobs_alone_needs_root_and_qemu() {
    let name = "the_units_of_systemd_leave_jobs_alone_needs_root_and_qemu";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let of = |variable| std::env::var_os(variable).map(PathBuf::from);
    let target = of("CARGO_TARGET_DIR").unwrap_or_else(|| root.join("target"));
    let kept = of("HPC_VM_DIR").unwrap_or_else(|| target.join("vm"));
    let asked = std::env::var_os("HPC_VM").is_some_and(|value| value == "1");
    if !asked && !kept.join("bookworm.img").exists() {
        println!("SKIPPED: {name}: takes minutes; HPC_VM=1 runs it");
        return;
    }
    let output = Command::new(root.join("packaging/vm-test.sh"))
        .arg(env!("CARGO_BIN_EXE_hpc"))
        .env("HPC_VM_DIR", &kept)
        .output()
        .expect("bash");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.code() == Some(MISSING) {
        println!("SKIPPED: {name}: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("TEST_RC=0"), "{said}");
}
