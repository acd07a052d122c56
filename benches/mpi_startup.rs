//! `cargo bench --bench mpi_startup`: from the command to the exit of a program that starts and ends MPI, under `hpc run`
//! and under the launcher that each MPI brings (`srun` where it works), on one node and on four; and what of it is our own,
//! told by a program that speaks PMI itself and does nothing else. All launchers in turn within each round: the machine is
//! noisy, so compare within a line.
//!
//! `HPC_BENCH_SECONDS` bounds the whole (150); what is not reached then has no rounds. `HPC_BENCH_MPI=mpich,intel` takes
//! some of the MPIs, `HPC_BENCH_RANKS=2,16` some of the sizes, `HPC_BENCH_RUN=--mpi=pmi1` are options for `hpc run`. The
//! four nodes are namespaces of this machine (`packaging/demo-hosts.sh`): they share its cores, so of many ranks it is the
//! libraries' own work that is seen most. Other launchers reach them by ssh where there is an sshd and root may serve, as in
//! a lab; with `HPC_BENCH_SSH=no`, and elsewhere, they enter a node for the price of a fork, which no real node offers.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and prints"
)]

#[path = "mpi_startup/engine.rs"]
mod engine;
#[path = "mpi_startup/ground.rs"]
mod ground;
#[path = "mpi_startup/launchers.rs"]
mod launchers;
#[path = "mpi_startup/timed.rs"]
mod timed;

use ground::Ground;
use launchers::{Mpi, Shape};
use std::path::Path;
use std::time::{Duration, Instant};
use timed::{Outcome, median, timed};

const ROUNDS: u32 = 7;
/// Nothing that is measured here takes so long, unless it does not end at all.
const RUN_MAX: Duration = Duration::from_secs(25);

fn main() {
    engine::measure();
    let seconds = std::env::var("HPC_BENCH_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse().ok()).unwrap_or(150);
    let end = Instant::now() + Duration::from_secs(seconds);
    let scratch = std::env::temp_dir().join(format!("hpc-bench-mpi-{}", std::process::id()));
    std::fs::create_dir_all(&scratch).expect("a scratch directory");
    let null = launchers::compile(Path::new("cc"), "null_pmi", &scratch);
    let mpis = launchers::present(&scratch);
    let mut grounds = Vec::new();
    for (nodes, made) in [(1, Ground::one(&scratch)), (4, Ground::four(&scratch))] {
        match made {
            Ok(ground) => grounds.push(ground),
            Err(why) => println!("SKIPPED: {nodes} nodes: {why}"),
        }
    }
    if let Ok(null) = &null {
        println!(
            "\nour own share: `hpc run` of a program that does what MPI asks of PMI-1, beside one that does nothing"
        );
        println!(
            "  nodes ranks   nothing    --mpi=pmi1   --mpi=auto   hydra     pmi1 - nothing   rounds (wanted: 64 on 4 at most 30 ms)"
        );
        for ground in &grounds {
            for shape in launchers::shapes(ground.nodes()) {
                share(ground, null, shape);
            }
        }
    }
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for ground in &grounds {
        for shape in launchers::shapes(ground.nodes()) {
            cells.extend(mpis.iter().map(|mpi| Cell::new(ground, mpi, shape)));
        }
    }
    fill(&mut cells, end);
    let reached = match ground::reached_by_ssh() {
        true => "ssh",
        false => "a fork",
    };
    println!(
        "\nMPI_Init and MPI_Finalize, from the command to its exit, medians; others reach nodes by {reached}"
    );
    println!(
        "  nodes ranks   MPI         hpc run     its own    ratio   wanted   rounds{}",
        if launchers::has_srun() {
            "   srun, ratio (wanted 0.5)"
        } else {
            "   (no srun here)"
        }
    );
    cells.iter().for_each(Cell::print);
    drop(cells);
    drop(grounds);
    let _ = std::fs::remove_dir_all(&scratch);
}

/// Until the end, a round of the cell that has had the least time so far: so each has one before any has two, and long ones
/// have few.
fn fill(cells: &mut [Cell<'_>], end: Instant) {
    loop {
        let now = Instant::now();
        let fits = |cell: &&mut Cell<'_>| {
            cell.rounds < ROUNDS && now + cell.spent / cell.rounds.max(1) < end
        };
        let Some(cell) = cells.iter_mut().filter(fits).min_by_key(|cell| cell.spent) else {
            return;
        };
        cell.round();
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// One line of the table of our own share.
fn share(ground: &Ground, program: &str, shape: Shape) {
    let hydra = launchers::hydra(ground, shape, program);
    let mut names = vec!["--mpi=none", "--mpi=pmi1", "--mpi=auto"];
    names.extend(hydra.is_some().then_some("hydra"));
    let mut took: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    // Ours in turn, then the other by itself: for a while after sessions of ssh have ended a node answers late.
    for turn in [0..3, 3..names.len()] {
        for round in 0..=ROUNDS {
            for (name, took) in names[turn.clone()].iter().zip(&mut took[turn.clone()]) {
                let mut command = match (*name, &hydra) {
                    ("hydra", Some(words)) => ground.launcher(words),
                    _ => {
                        let idle = *name == "--mpi=none";
                        ground.hpc(&launchers::hpc(shape, &[name], program, idle))
                    }
                };
                match timed(&mut command, RUN_MAX) {
                    // The first one is to warm up.
                    Outcome::Took(_) if round == 0 => {}
                    Outcome::Took(time) => took.push(ms(time)),
                    other => println!("  {:5} {:5}   {name}: {other}", shape.nodes, shape.ranks),
                }
            }
        }
    }
    let column = |at: usize| took.get(at).and_then(|took| median(took));
    let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} ms"));
    let more: Vec<f64> = took[1]
        .iter()
        .zip(&took[0])
        .map(|(own, bare)| own - bare)
        .collect();
    println!(
        "  {:5} {:5}   {:10} {:12} {:12} {:9} {:>14}   {}",
        shape.nodes,
        shape.ranks,
        text(column(0)),
        text(column(1)),
        text(column(2)),
        text(column(3)),
        text(median(&more)),
        more.len(),
    );
}

/// One line of the table of MPIs.
struct Cell<'a> {
    ground: &'a Ground,
    mpi: &'a Mpi,
    shape: Shape,
    rounds: u32,
    spent: Duration,
    /// Milliseconds under `hpc run`, its own launcher, `srun`.
    took: [Vec<f64>; 3],
    wrong: Vec<String>,
}

impl<'a> Cell<'a> {
    fn new(ground: &'a Ground, mpi: &'a Mpi, shape: Shape) -> Self {
        Cell {
            ground,
            mpi,
            shape,
            rounds: 0,
            spent: Duration::ZERO,
            took: Default::default(),
            wrong: Vec::new(),
        }
    }

    fn round(&mut self) {
        let (ground, shape, program) = (self.ground, self.shape, &self.mpi.program);
        let options = launchers::chosen("HPC_BENCH_RUN");
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let commands = [
            Some(ground.hpc(&launchers::hpc(shape, &options, program, false))),
            Some(ground.launcher(&self.mpi.words(ground, shape))),
            launchers::has_srun().then(|| launchers::srun(shape, program)),
        ];
        let begun = Instant::now();
        for (command, took) in commands.into_iter().zip(&mut self.took) {
            let Some(mut command) = command else { continue };
            command.envs(self.mpi.environment.iter().cloned());
            match timed(&mut command, RUN_MAX) {
                Outcome::Took(time) => took.push(ms(time)),
                other => {
                    timed::sweep(program);
                    self.wrong
                        .push(format!("{}: {other}", timed::line(&command)));
                }
            }
        }
        self.spent += begun.elapsed();
        self.rounds += 1;
    }

    fn print(&self) {
        let [ours, own, srun] = self.took.each_ref().map(|took| median(took));
        let text =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.0} ms"));
        let ratio = |other: Option<f64>| {
            let ratio = ours.zip(other).map(|(ours, other)| ours / other);
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let slurm = format!("   {} {}", text(srun), ratio(srun));
        println!(
            "  {:5} {:5}   {:8} {:>10} {:>11} {:>8} {:>8}   {:6}{}",
            self.shape.nodes,
            self.shape.ranks,
            self.mpi.name,
            text(ours),
            text(own),
            ratio(own),
            if self.shape.nodes == 1 { "1.0" } else { "0.7" },
            self.rounds,
            if launchers::has_srun() { &slurm } else { "" },
        );
        for line in &self.wrong {
            println!("        {line}");
        }
    }
}
