//! The array of no-op tasks again on a controller whose every sync takes 5 ms longer, as on a lab's disk.
//!
//! This program is started a second time to be that controller: the `hpc` that users run has no such switch.

use crate::{HPC, median, rate, timed};
use hpc::controller::{ControllerOptions, run};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DELAY: Duration = Duration::from_millis(5);
/// Tells the second start which state directory is meant.
const STATE: &str = "HPC_BENCH_SLOW_CONTROLLER";

/// Is the controller and does not return before its end, if this start is meant to be that.
pub(crate) fn be_the_controller() -> bool {
    let Some(state) = std::env::var_os(STATE) else {
        return false;
    };
    let state = std::path::PathBuf::from(state);
    let ended = run(ControllerOptions {
        listen: hpc::controller::Listen::Nowhere,
        socket: state.join("hpc.sock"),
        state_dir: state,
        cluster_name: None,
        config: hpc::config::Config::default(),
        ready_fd: None,
        sync_delay: Some(DELAY),
    });
    if let Err(error) = ended {
        eprintln!("the slow controller: {error}");
    }
    true
}

/// Ended when dropped.
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures, and compares with the rate on the quick disk.
pub(crate) fn measure(elements: u32, quick: f64, scratch: &Path) {
    let state = scratch.join("slow");
    std::fs::create_dir_all(&state).expect("a state directory");
    let controller = Command::new(std::env::current_exe().expect("our own path"))
        .env(STATE, &state)
        .stdin(Stdio::null())
        .spawn();
    let mut controller = Ended(controller.expect("the slow controller starts"));
    let answers = || {
        Command::new(HPC)
            .arg("status")
            .env("HPC_STATE_DIR", &state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    while !answers() {
        assert!(
            controller.0.try_wait().is_ok_and(|ended| ended.is_none()),
            "the slow controller has ended"
        );
    }
    let worker = Command::new(HPC)
        .arg("worker")
        .env("HPC_STATE_DIR", &state)
        .stdin(Stdio::null())
        .spawn();
    let _worker = Ended(worker.expect("its agent starts"));
    let array = format!("1-{elements}");
    let submit = ["submit", "--wait", "-o", "/dev/null"];
    let one: Vec<f64> = (0..9)
        .map(|_| {
            let words = [&submit[..], &["--", "true"]].concat();
            crate::ms(timed(HPC, &words, &state))
        })
        .collect();
    let rates: Vec<f64> = (0..3)
        .map(|_| {
            let words = [&submit[..], &["-a", &array, "--", "true"]].concat();
            rate(elements, timed(HPC, &words, &state))
        })
        .collect();
    let slow = median(rates);
    println!(
        "with 5 ms more in every sync   {slow:8.0} /s; {:.2} of the rate without; one no-op {:.1} ms",
        slow / quick,
        median(one)
    );
}
