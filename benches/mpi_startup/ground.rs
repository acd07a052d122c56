//! Where programs are started: a cluster of this machine alone, or of four machines that are namespaces of it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const HPC: &str = env!("CARGO_BIN_EXE_hpc");
const PATH: &str = "/run/lab/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const HOSTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/demo-hosts.sh");
/// Says which processes to enter, and lives as long as our end of its standard input.
const START: &str = r#". "$1"; shift
hosts_start 4 "$@" || exit 1
echo "${hosts_own[0]} ${hosts_init[*]}"
echo "${hosts_in[*]}"
echo "${hosts_user[*]}"
cat >/dev/null
hosts_stop"#;
/// The machines in the order of their names.
pub(super) const ADDRESSES: [&str; 4] = ["10.77.0.2", "10.77.0.3", "10.77.0.4", "10.77.0.5"];
/// What serves ssh, where it is installed.
const SSHD: &str = "/usr/sbin/sshd";

/// The interface of the bridge, where launchers start.
pub(super) const BRIDGE: &str = "lab0";

pub(super) enum Ground {
    One { state: PathBuf },
    Four(Machines),
}

pub(super) struct Machines {
    holder: Child,
    /// Servers of ssh, one on each machine; they end with it.
    servers: Vec<Child>,
    bridge: String,
    machines: Vec<String>,
    /// What enters the user namespace of the bridge, where we are not root.
    before: Vec<String>,
    /// The option for the one of the machines.
    within: Vec<String>,
    agent: PathBuf,
}

impl Ground {
    pub(super) fn one(scratch: &Path) -> Result<Self, String> {
        let ground = Ground::One {
            state: scratch.join("state"),
        };
        let up = ["up", "--detach", "--listen", "127.0.0.1:0"];
        let cpus = (64 + real_cpus()).to_string();
        ground.ok(&[&up[..], &["--cpus", &cpus, "--memory", "64G"]].concat())?;
        ground.occupy()?;
        Ok(ground)
    }

    pub(super) fn four(scratch: &Path) -> Result<Self, String> {
        let machines = Machines::start(scratch)?;
        let ground = Ground::Four(machines);
        let cpus = (16 + real_cpus()).to_string();
        let machine = ["--cpus", &cpus, "--memory", "64G"];
        ground.ok(&[&["up", "--detach"], &machine[..]].concat())?;
        let line = ground.ok(&["invite", "--parsable", "--uses", "3"])?;
        for number in 1..4 {
            let join = [&["join", "--detach"], &machine[..], &[line.trim()]].concat();
            answer(&mut ground.hpc_on(number, &join))?;
        }
        let begun = Instant::now();
        while ground.ok(&["run", "-N", "4", "true"]).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the machines do not find each other".to_owned());
            }
        }
        ground.occupy()?;
        Ok(ground)
    }

    /// Takes the cpus that there really are: whoever has one of them is bound to it, and others would bind nobody. What is
    /// left is there in name only, so all ranks may run where they like.
    fn occupy(&self) -> Result<(), String> {
        let (nodes, cpus) = (self.nodes().to_string(), real_cpus().to_string());
        let words = ["-N", &nodes, "--ntasks-per-node", &cpus, "-o", "/dev/null"];
        let submit = [
            &["submit", "--parsable"],
            &words[..],
            &["--", "sleep", "1d"],
        ]
        .concat();
        let job = self.ok(&submit)?;
        let begun = Instant::now();
        while !self.ok(&["job", job.trim(), "--json"])?.contains("RUNNING") {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("no job starts".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> u32 {
        match self {
            Ground::One { .. } => 1,
            Ground::Four(_) => 4,
        }
    }

    /// By what other launchers reach a machine, where there is more than one: ssh, or what stands in for it.
    pub(super) fn agent(&self) -> Option<&Path> {
        match self {
            Ground::One { .. } => None,
            Ground::Four(machines) => Some(&machines.agent),
        }
    }

    /// `hpc` with these words, as a user of the first machine.
    pub(super) fn hpc(&self, words: &[impl AsRef<OsStr>]) -> Command {
        self.hpc_on(0, words)
    }

    fn hpc_on(&self, number: usize, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = match self {
            Ground::One { state } => {
                let mut command = plain(HPC);
                command.env("HPC_STATE_DIR", state);
                command
            }
            Ground::Four(machines) => {
                let mut command = machines.on(&machines.machines[number]);
                command.args(["env", "-C", "/tmp/home", "HOME=/tmp/home", "hpc"]);
                command
            }
        };
        command.args(words);
        command
    }

    /// Another launcher: on the machine itself, or beside the four, which it reaches by what stands in for ssh.
    pub(super) fn launcher(&self, words: &[String]) -> Command {
        let mut command = match self {
            Ground::One { .. } => plain("env"),
            Ground::Four(machines) => {
                let mut command = machines.enter(&machines.bridge);
                command.args(["env", "-C", "/"]);
                command
            }
        };
        for variable in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
            command.env(variable, "1");
        }
        command.args(words);
        command
    }

    fn ok(&self, words: &[&str]) -> Result<String, String> {
        answer(&mut self.hpc(words))
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        match self {
            Ground::One { .. } => {
                let _ = self.ok(&["down", "--yes"]);
            }
            Ground::Four(machines) => {
                drop(machines.holder.stdin.take());
                let _ = machines.holder.wait();
                for server in &mut machines.servers {
                    let _ = server.kill();
                    let _ = server.wait();
                }
            }
        }
    }
}

impl Machines {
    fn start(scratch: &Path) -> Result<Self, String> {
        let mut command = plain("bash");
        command.args(["-c", START, "bash", HOSTS]).arg(scratch);
        command.args(super::launchers::wheels().ok());
        let mut holder = command
            .env("HPC", HPC)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let out = BufReader::new(holder.stdout.take().ok_or("no output")?);
        let lines: Vec<Vec<String>> = out
            .lines()
            .take(3)
            .map_while(Result::ok)
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        let Ok::<[_; 3], _>([pids, before, within]) = lines.try_into() else {
            let output = holder.wait_with_output();
            let why = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            return Err(why.unwrap_or_default().trim().to_owned());
        };
        let (bridge, machines) = pids.split_first().ok_or("no processes")?;
        let agent = scratch.join("agent");
        let mut machines = Machines {
            holder,
            servers: Vec::new(),
            bridge: bridge.clone(),
            machines: machines.to_vec(),
            before,
            within,
            agent,
        };
        if reached_by_ssh() {
            machines.serve_ssh(scratch)?;
        } else {
            machines.stand_in_for_ssh()?;
        }
        Ok(machines)
    }

    /// A server of ssh on each machine, and an agent that is its client; with keys that nobody else has.
    fn serve_ssh(&mut self, scratch: &Path) -> Result<(), String> {
        let file = |name: &str| scratch.join(name).to_string_lossy().into_owned();
        let write = |name: &str, text: String| {
            std::fs::write(scratch.join(name), text).map_err(|error| error.to_string())
        };
        for key in ["host-key", "user-key"] {
            let mut command = plain("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f", &file(key)]);
            answer(&mut command)?;
        }
        let server = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM no\nMaxStartups 64\n\
             PermitRootLogin yes\nPasswordAuthentication no\n",
            file("host-key"),
            file("user-key.pub"),
        );
        write("sshd-config", server)?;
        let client = format!(
            "IdentityFile {}\nIdentitiesOnly yes\nBatchMode yes\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n\
             LogLevel ERROR\n",
            file("user-key"),
        );
        write("ssh-config", client)?;
        for process in &self.machines {
            let mut command = self.on(process);
            let serve = format!(
                "mkdir -p /run/sshd && exec {SSHD} -D -f {}",
                file("sshd-config")
            );
            let server = command.args(["sh", "-c", &serve]).spawn();
            self.servers
                .push(server.map_err(|error| error.to_string())?);
        }
        self.write_agent(&format!(
            "host=$1\nshift\n\
             exec ssh -F {} \"$host\" \"cd /tmp/home && export HOME=/tmp/home && $*\"\n",
            file("ssh-config"),
        ))?;
        let begun = Instant::now();
        for address in ADDRESSES {
            let mut probe = self.enter(&self.bridge);
            probe.arg(&self.agent).args([address, "true"]);
            while let Err(why) = answer(&mut probe) {
                if begun.elapsed() > Duration::from_secs(10) {
                    return Err(format!("no ssh to {address}: {why}"));
                }
            }
        }
        Ok(())
    }

    fn enter(&self, process: &str) -> Command {
        let mut words = self.before.clone();
        let enter = ["nsenter", "--target", process, "--net", "--mount"];
        words.extend(enter.map(str::to_owned));
        let mut command = plain(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// What is run on a machine as by its users.
    fn on(&self, process: &str) -> Command {
        let mut command = self.enter(process);
        command.args(["--uts", "--ipc", "--pid"]).args(&self.within);
        command
    }

    /// The command on the machine of this address, as by ssh without the cost of ciphers.
    fn stand_in_for_ssh(&self) -> Result<(), String> {
        let cases = ADDRESSES.iter().zip(&self.machines);
        let cases = cases.map(|(address, process)| format!("{address}) process={process} ;;\n"));
        self.write_agent(&format!(
            "case $1 in\n{}*) echo \"no machine $1\" >&2; exit 1 ;;\nesac\nshift\n\
             exec nsenter --target $process --net --mount --uts --ipc --pid {} env -C /tmp/home HOME=/tmp/home sh -c \"$*\"\n",
            cases.collect::<String>(),
            self.within.join(" "),
        ))
    }

    /// The script that launchers call as they call ssh; `rest` finds a machine and the words of a command.
    fn write_agent(&self, rest: &str) -> Result<(), String> {
        let text = format!(
            "#!/bin/sh\nwhile [ \"${{1#-}}\" != \"$1\" ]; do case $1 in -[lpo]) shift 2 ;; *) shift ;; esac; done\n{rest}"
        );
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::write(&self.agent, text)
            .and_then(|()| std::fs::set_permissions(&self.agent, executable))
            .map_err(|error| error.to_string())
    }
}

/// Whether other launchers reach the four machines by ssh, as they do in a lab. `HPC_BENCH_SSH=no` says no; they then enter
/// a machine for the price of a fork.
pub(super) fn reached_by_ssh() -> bool {
    let no = std::env::var_os("HPC_BENCH_SSH").is_some_and(|said| said == "no");
    !no && Path::new(SSHD).exists() && nix::unistd::geteuid().is_root()
}

fn real_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A program with a small environment that does not depend on where the bench runs.
pub(super) fn plain(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("HOME", std::env::temp_dir())
        .stdin(Stdio::null());
    command
}

fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", why.trim()))
}
