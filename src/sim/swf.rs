//! Traces in the Standard Workload Format: 18 columns, `;` before what is about them all.
//!
//! Chapin et al., "Benchmarks and Standards for the Evaluation of Parallel Job Schedulers", JSSPP 1999; version 2.2 of
//! the format. Which fields count, and which jobs do, is said at [`Lines`].

/// Most bytes of a line.
pub const LINE_MAX: usize = 64 * 1024;
/// Most jobs of a trace.
const JOBS_MAX: usize = 20_000_000;
/// Most processors of a machine.
const PROCESSORS_MAX: u32 = 100_000_000;

/// A job of a trace. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceJob {
    /// Its number in the trace.
    pub id: i64,
    /// When it was submitted.
    pub submit: i64,
    /// How long it runs; at most its limit, at which it is killed.
    pub run: i64,
    /// How long its user allows it.
    pub limit: i64,
    /// Processors.
    pub processors: u32,
    /// Whose it is.
    pub user: i64,
}

/// Jobs in the order of their submission, and the machine they were for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// By submission; of one second in the order of the file.
    pub jobs: Vec<TraceJob>,
    /// Of the machine.
    pub processors: u32,
    /// Jobs that were left out: they never ran, asked for nothing, or for more than there is.
    pub dropped: usize,
}

/// Why a trace cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// Neither the header nor the caller says it.
    #[error("the trace does not say how many processors its machine has: say so with --procs")]
    NoProcessors,
    /// A number that makes no sense.
    #[error("{0} processors: the number is from 1 to {PROCESSORS_MAX}")]
    BadProcessors(i64),
    /// Not the format.
    #[error("line {line} is no job of a trace: {why}")]
    BadLine {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// More than we would hold.
    #[error("it has more than {JOBS_MAX} jobs")]
    TooLong,
    /// Nothing to do.
    #[error("it has no job that could run on {0} processors")]
    Empty(u32),
}

impl Trace {
    /// Reads a whole trace ([`Lines`]); `processors` overrides what it says of its machine.
    ///
    /// # Errors
    /// When it is no trace, or its machine is not known.
    pub fn parse(text: &str, processors: Option<u32>) -> Result<Self, TraceError> {
        let mut lines = Lines::default();
        for line in text.lines() {
            lines.push(line)?;
        }
        lines.finish(processors)
    }
}

/// A trace as it is read.
///
/// Decimals are cut off. Processors are those asked for (field 8), else those used (5); the limit is the time asked
/// for (9), else the run time (4).
#[derive(Debug, Default)]
pub struct Lines {
    count: usize,
    max_procs: Option<i64>,
    max_nodes: Option<i64>,
    jobs: Vec<Raw>,
}

impl Lines {
    /// The next line.
    ///
    /// # Errors
    /// When it is none of a trace.
    pub fn push(&mut self, line: &str) -> Result<(), TraceError> {
        self.count += 1;
        let line = line.trim();
        if let Some(comment) = line.strip_prefix(';') {
            let value = |name: &str| {
                let rest = comment.trim().strip_prefix(name)?;
                let number = rest.trim().strip_prefix(':')?.split_whitespace().next()?;
                number.parse::<i64>().ok()
            };
            self.max_procs = self.max_procs.or_else(|| value("MaxProcs"));
            self.max_nodes = self.max_nodes.or_else(|| value("MaxNodes"));
            return Ok(());
        }
        if line.is_empty() {
            return Ok(());
        }
        if self.jobs.len() >= JOBS_MAX {
            return Err(TraceError::TooLong);
        }
        let job = job(line).map_err(|why| TraceError::BadLine {
            line: self.count,
            why,
        })?;
        self.jobs.push(job);
        Ok(())
    }

    /// The trace, for so many processors or those it says.
    ///
    /// # Errors
    /// When its machine is not known, or could run none of its jobs.
    pub fn finish(self, processors: Option<u32>) -> Result<Trace, TraceError> {
        let said = self.max_procs.filter(|count| *count > 0).or(self.max_nodes);
        let asked = processors.map(i64::from).or(said);
        let wanted = asked.ok_or(TraceError::NoProcessors)?;
        let processors = u32::try_from(wanted)
            .ok()
            .filter(|count| (1..=PROCESSORS_MAX).contains(count))
            .ok_or(TraceError::BadProcessors(wanted))?;
        let all = self.jobs.len();
        let fits = |job: &&Raw| {
            job.run > 0 && job.submit >= 0 && (1..=i64::from(processors)).contains(&job.processors)
        };
        let mut jobs: Vec<TraceJob> = self.jobs.iter().filter(fits).map(Raw::job).collect();
        jobs.sort_by_key(|job| job.submit);
        if jobs.is_empty() {
            return Err(TraceError::Empty(processors));
        }
        Ok(Trace {
            dropped: all - jobs.len(),
            jobs,
            processors,
        })
    }
}

/// A job as its line has it.
#[derive(Debug)]
struct Raw {
    id: i64,
    submit: i64,
    run: i64,
    limit: i64,
    processors: i64,
    user: i64,
}

impl Raw {
    fn job(&self) -> TraceJob {
        TraceJob {
            id: self.id,
            submit: self.submit,
            run: self.run.min(self.limit),
            limit: self.limit,
            processors: u32::try_from(self.processors).unwrap_or(u32::MAX),
            user: self.user,
        }
    }
}

fn job(line: &str) -> Result<Raw, String> {
    if line.len() > LINE_MAX {
        return Err(format!("{} bytes are too many", line.len()));
    }
    let mut fields = [-1; 18];
    let mut count = 0;
    for (word, field) in line.split_whitespace().zip(&mut fields) {
        *field = whole(word).ok_or_else(|| format!("`{}` is no number", word.escape_debug()))?;
        count += 1;
    }
    if count < 5 {
        return Err(format!("it has {count} fields, a job has 18"));
    }
    let [id, submit, _, run, used, _, _, asked, time, _, _, user, ..] = fields;
    Ok(Raw {
        id,
        submit,
        run,
        limit: if time > 0 { time } else { run },
        processors: if asked > 0 { asked } else { used },
        user,
    })
}

/// A number without its decimals. Times beyond two thousand years are none: added up over all jobs they stay numbers.
fn whole(word: &str) -> Option<i64> {
    let (integer, decimals) = word.split_once('.').unwrap_or((word, ""));
    let value: i64 = match integer {
        "" | "-" => 0,
        digits => digits.parse().ok()?,
    };
    let plain = decimals.bytes().all(|byte| byte.is_ascii_digit());
    (plain && value.abs() < 1 << 36).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_can_run_are_kept_in_order() {
        let text = "; MaxNodes: 8\n;MaxProcs: 4\n\n\
            1 10.9 -1 100 2 -1 -1 -1 -1 -1 1 7 -1 -1 -1 -1 -1 -1\n\
            2 5 -1 100 2 -1 -1 3 50 -1 1 -1 -1 -1 -1 -1 -1 -1\n\
            3 5 -1 0 2 -1 -1 3 50 -1 1 -1 -1 -1 -1 -1 -1 -1\n\
            4 5 -1 9 2 -1 -1 5 50 -1 1 -1 -1 -1 -1 -1 -1 -1\n";
        let trace = Trace::parse(text, None).unwrap();
        let job = |id, submit, run, limit, processors, user| TraceJob {
            id,
            submit,
            run,
            limit,
            processors,
            user,
        };
        assert_eq!(
            trace.jobs,
            [job(2, 5, 50, 50, 3, -1), job(1, 10, 100, 100, 2, 7)]
        );
        assert_eq!((trace.processors, trace.dropped), (4, 2));
        assert_eq!(Trace::parse(text, Some(8)).unwrap().jobs.len(), 3);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let refused = |text: &str| Trace::parse(text, Some(4)).unwrap_err().to_string();
        assert_eq!(
            refused("; x\n1 2 three 4 5"),
            "line 2 is no job of a trace: `three` is no number"
        );
        assert!(refused("1 2 3").contains("it has 3 fields"));
        assert!(refused("; nothing").contains("no job that could run on 4"));
        assert!(refused("1 99999999999999999 0 1 1").contains("is no number"));
        let unknown = Trace::parse("1 0 0 1 1", None).unwrap_err();
        assert!(unknown.to_string().contains("--procs"));
    }
}
