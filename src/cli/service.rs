//! The system's units (`packaging/systemd/`): whether systemd keeps a process of ours, and asking it to start or stop one.
//!
//! Only root's cluster at the system's places can be theirs. What the units do is written in them.

use super::exit::{Failure, Outcome};
use super::paths::{self, Places};
use super::process::Kind;
use crate::model::refusal::Code;
use anyhow::Context;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Exists where systemd is process 1.
const BOOTED: &str = "/run/systemd/system";

/// The unit that keeps such a process.
pub(super) fn unit(kind: Kind) -> &'static str {
    match kind {
        Kind::Controller => "hpc-controller.service",
        Kind::Worker => "hpc-worker.service",
    }
}

/// Whether a process at the system's places could be a unit's on this machine.
fn may_keep(places: &Places) -> bool {
    paths::is_root() && places.is_system() && Path::new(BOOTED).is_dir()
}

/// Whether the unit is installed, for places that are its own.
pub(super) fn is_installed(kind: Kind, places: &Places) -> bool {
    may_keep(places)
        && Command::new("systemctl")
            .args(["cat", unit(kind)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// Whether systemd started this process, and so would start it again.
pub(super) fn keeps(kind: Kind, places: &Places, pid: Pid) -> bool {
    may_keep(places)
        && fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|groups| is_in(&groups, unit(kind)))
}

/// Whether a process with these groups is in the unit's or in one below it.
fn is_in(groups: &str, unit: &str) -> bool {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .filter_map(|path| path.strip_prefix("/system.slice/"))
        .any(|below| below.split('/').next() == Some(unit))
}

/// Starts the unit, now and at every boot.
pub(super) fn enable(kind: Kind) -> Outcome<()> {
    systemctl(&["enable", "--now", unit(kind)])
}

/// Stops the unit; what ended by itself is not started again then.
pub(super) fn stop(kind: Kind) -> Outcome<()> {
    systemctl(&["stop", unit(kind)])
}

fn systemctl(words: &[&str]) -> Outcome<()> {
    let output = Command::new("systemctl")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("cannot run systemctl")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Other(anyhow::anyhow!(
        "systemctl {} failed: {}",
        words.join(" "),
        said.trim()
    )))
}

/// Refuses options that the unit would not be started with.
pub(super) fn refuse_options(given: bool) -> Outcome<()> {
    if !given {
        return Ok(());
    }
    Err(Failure::refused(
        Code::Conflict,
        format!(
            "{} runs the worker of this machine, and knows nothing of these options",
            unit(Kind::Worker)
        ),
        "write them into /etc/default/hpc, as HPC_WORKER_OPTIONS=\"--cpus 30\", and join without them; --name may stay",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_units_by_its_group() {
        let worker = unit(Kind::Worker);
        for (groups, expected) in [
            ("0::/system.slice/hpc-worker.service\n", true),
            ("0::/system.slice/hpc-worker.service/agent\n", true),
            (
                "2:cpu:/\n1:name=systemd:/system.slice/hpc-worker.service\n0::/\n",
                true,
            ),
            ("0::/system.slice/hpc-controller.service\n", false),
            ("0::/system.slice/hpc-worker.service.d\n", false),
            ("0::/user.slice/hpc-worker.service\n", false),
            ("0::/\n", false),
            ("", false),
        ] {
            assert_eq!(is_in(groups, worker), expected, "{groups}");
        }
    }

    #[test]
    fn a_state_directory_of_ones_own_is_no_units() {
        let places = Places {
            state: "/srv/lab".into(),
            socket: "/srv/lab/hpc.sock".into(),
        };
        assert!(!may_keep(&places));
        assert!(!is_installed(Kind::Worker, &places));
    }
}
