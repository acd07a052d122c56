//! The same questions to `hq`, and to `sbatch` and `spur` where they are on PATH: what a user waits for, in the same
//! run and on the same machine. `hq` is started and stopped here; Slurm and Spur are asked as they run.

use crate::slow_disk::Ended;
use crate::{median, ms, rate};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What one scheduler took; a figure it does not give is printed as `-`.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) start_ms: Option<f64>,
    pub(crate) submits: Option<f64>,
    pub(crate) one_ms: Option<f64>,
    pub(crate) array: Option<f64>,
    pub(crate) queue_ms: Option<f64>,
}

impl Figures {
    pub(crate) fn print(&self, who: &str) {
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        println!(
            "{who:<8} start {:>8} ms  submits {:>8} /s  one no-op {:>8} ms  array {:>8} /s  queue {:>8} ms",
            show(self.start_ms),
            show(self.submits),
            show(self.one_ms),
            show(self.array),
            show(self.queue_ms),
        );
    }
}

/// How a scheduler is asked.
struct Tool {
    program: &'static str,
    /// Variables for its clients.
    variables: Vec<(&'static str, PathBuf)>,
    submit: Vec<String>,
    submit_and_wait: Vec<String>,
    array: Vec<String>,
    queue: Vec<String>,
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(ToOwned::to_owned).collect()
}

impl Tool {
    /// Runs to the end; `None` when it fails.
    fn timed(&self, arguments: &[String], directory: &Path) -> Option<Duration> {
        let begin = Instant::now();
        let mut command = Command::new(self.program);
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        let status = command.status().ok()?;
        status.success().then(|| begin.elapsed())
    }

    fn measure(&self, elements: u32, submits: u32, directory: &Path) -> Figures {
        let one: Vec<f64> = (0..15)
            .filter_map(|_| self.timed(&self.submit_and_wait, directory).map(ms))
            .collect();
        let array: Vec<f64> = (0..3)
            .filter_map(|_| self.timed(&self.array, directory))
            .map(|took| rate(elements, took))
            .collect();
        let begin = Instant::now();
        let sent = (0..submits).filter(|_| self.timed(&self.submit, directory).is_some());
        let sent = u32::try_from(sent.count()).unwrap_or(0);
        let took = begin.elapsed();
        let queue: Vec<f64> = (0..5)
            .filter_map(|_| self.timed(&self.queue, directory).map(ms))
            .collect();
        let some = |values: Vec<f64>| (!values.is_empty()).then(|| median(values));
        Figures {
            start_ms: None,
            submits: (sent > 0).then(|| rate(sent, took)),
            one_ms: some(one),
            array: some(array),
            queue_ms: some(queue),
        }
    }
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn quietly(program: &str, arguments: &str, directory: &Path, state: &Path) -> Option<Ended> {
    let child = Command::new(program)
        .args(words(arguments))
        .env("HQ_SERVER_DIR", state)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.ok().map(Ended)
}

fn hq(elements: u32, submits: u32, scratch: &Path) -> Option<Figures> {
    let directory = scratch.join("hq");
    let state = directory.join("state");
    std::fs::create_dir_all(&state).ok()?;
    let tool = Tool {
        program: "hq",
        variables: vec![("HQ_SERVER_DIR", state.clone())],
        submit: words("submit --stdout=none --stderr=none -- true"),
        submit_and_wait: words("submit --wait --stdout=none --stderr=none -- true"),
        array: words(&format!(
            "submit --wait --array 1-{elements} --stdout=none --stderr=none -- true"
        )),
        queue: words("job list --all"),
    };
    let begin = Instant::now();
    let _server = quietly("hq", "server start", &directory, &state)?;
    let answers = || tool.timed(&words("server info"), &directory).is_some();
    let mut patience = 0;
    while !answers() {
        patience += 1;
        if patience > 1000 {
            return None;
        }
    }
    let start = ms(begin.elapsed());
    let _worker = quietly("hq", "worker start --cpus 2", &directory, &state)?;
    // The first job waits for the worker.
    tool.timed(&tool.submit_and_wait, &directory)?;
    let mut figures = tool.measure(elements, submits, &directory);
    figures.start_ms = Some(start);
    Some(figures)
}

/// Measures those that are there, each by itself.
pub(crate) fn measure(elements: u32, submits: u32, scratch: &Path) {
    // Those that start some tens a second are asked for no more than they end in a few seconds.
    let few = elements.min(100);
    let array = format!("1-{few}");
    if on_path("hq") {
        match hq(elements, submits, scratch) {
            Some(figures) => figures.print("hq"),
            None => println!("hq: it did not start, no figures"),
        }
    } else {
        println!("hq: not on PATH, no figures");
    }
    let like_slurm = |program, queue: &'static str| Tool {
        program,
        variables: Vec::new(),
        submit: words("-o /dev/null --wrap true"),
        submit_and_wait: words("--wait -o /dev/null --wrap true"),
        array: words(&format!("--wait -a {array} -o /dev/null --wrap true")),
        queue: words(queue),
    };
    if on_path("sbatch") {
        let mut figures = like_slurm("sbatch", "--version").measure(few, submits, scratch);
        figures.queue_ms = like_slurm("squeue", "").timed(&[], scratch).map(ms);
        figures.print("slurm");
    } else {
        println!("sbatch: not on PATH, no figures");
    }
    if on_path("spur") {
        let spur = Tool {
            submit: words("submit -o /dev/null --wrap true"),
            submit_and_wait: words("submit --wait -o /dev/null --wrap true"),
            array: words(&format!(
                "submit --wait -a {array} -o /dev/null --wrap true"
            )),
            queue: words("queue"),
            ..like_slurm("spur", "queue")
        };
        spur.measure(few, submits, scratch).print("spur");
    } else {
        println!("spur: not on PATH, no figures");
    }
}
