//! Fills a GPU cluster with tasks of its trace until more is asked for than there is: how much of it a rule can give.
//!
//! The experiment of Weng et al. (USENIX ATC 2023): tasks are drawn from the trace at random, with replacement, and never
//! leave. A task that fits nowhere has failed, and the next one comes. GPUs that stay free once as much has been asked for
//! as there is are stranded. The seed decides which tasks come, the same ones for every rule.

use super::draw::Draw;
use super::gpu::GpuTrace;
use crate::scheduler::packing::{Mix, Packer, Rule};

/// Until how much has been asked for; hundredths of all GPUs.
pub const ARRIVED_MAX: usize = 130;
/// Most tasks that come. Where they ask for next to nothing, the end is never reached.
const TASKS_MAX: u32 = 1_000_000;

/// How far it has come. Amounts are in thousandths of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Point {
    /// Asked for so far.
    pub arrived: u64,
    /// Given so far.
    pub allocated: u64,
    /// Tasks so far.
    pub tasks: u32,
    /// Those of them that fitted nowhere.
    pub failed: u32,
}

/// What a rule made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inflation {
    /// All GPUs; thousandths.
    pub capacity: u64,
    /// How far it had come when so many hundredths had been asked for, from 0 to [`ARRIVED_MAX`].
    pub points: Vec<Point>,
}

/// It would not end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{TASKS_MAX} of its tasks ask for {arrived} thousandths of GPUs, of {capacity}: too little to fill them"
)]
pub struct TooLittle {
    arrived: u64,
    capacity: u64,
}

impl Inflation {
    /// When as much had been asked for as there is.
    #[must_use]
    pub fn full(&self) -> Point {
        self.points.get(100).copied().unwrap_or_default()
    }

    /// When it ended.
    #[must_use]
    pub fn end(&self) -> Point {
        self.points.last().copied().unwrap_or_default()
    }

    /// What of all GPUs was not given out then; thousandths.
    #[must_use]
    pub fn stranded(&self, point: Point) -> u64 {
        self.capacity - point.allocated
    }

    /// Hundredths of all GPUs.
    #[must_use]
    pub fn percent(&self, milli: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "thousandths are far below 2^53")]
        let (part, all) = (milli as f64, self.capacity as f64);
        part * 100.0 / all
    }
}

/// Fills the cluster under this rule.
///
/// # Errors
/// When its tasks ask for so little that it would take too many.
pub fn inflate(trace: &GpuTrace, rule: Rule, seed: u64) -> Result<Inflation, TooLittle> {
    let mix = Mix::of(&trace.tasks);
    let mut packer = Packer::new(rule, trace.nodes.clone(), &mix);
    let capacity = trace.nodes.iter().map(|node| node.gpu_milli()).sum();
    let mut draw = Draw::new(seed);
    let mut now = Point::default();
    let mut points = vec![now];
    while points.len() <= ARRIVED_MAX {
        if now.tasks >= TASKS_MAX {
            return Err(TooLittle {
                arrived: now.arrived,
                capacity,
            });
        }
        let drawn = draw.below(trace.tasks.len() as u64);
        let task = &trace.tasks[usize::try_from(drawn).unwrap_or(0)];
        now.tasks += 1;
        now.arrived += task.gpus.milli();
        match packer.place(task) {
            Some(_) => now.allocated += task.gpus.milli(),
            None => now.failed += 1,
        }
        // One large task may reach several at once.
        while points.len() <= ARRIVED_MAX && now.arrived * 100 >= capacity * points.len() as u64 {
            points.push(now);
        }
    }
    Ok(Inflation { capacity, points })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::packing::{GPU, GpuAsk, Node, Task};

    /// Nodes of so many GPUs, and tasks that ask for so much.
    fn trace(gpus: &[usize], asks: &[GpuAsk]) -> GpuTrace {
        let node = |count: &usize| Node {
            cpu_milli: 1_000_000,
            memory_mib: 1 << 30,
            gpus: std::iter::repeat_n(GPU, *count).collect(),
            model: None,
        };
        let task = |gpus: &GpuAsk| Task {
            gpus: *gpus,
            models: Vec::new(),
            cpu_milli: 1,
            memory_mib: 1,
        };
        GpuTrace {
            nodes: gpus.iter().map(node).collect(),
            tasks: asks.iter().map(task).collect(),
        }
    }

    #[test]
    fn what_fits_is_given_until_nothing_does() {
        // Two of 600 never share a GPU: of each 400 is stranded. The 9th task brings what is asked for to 5400 of 5000.
        let result = inflate(&trace(&[2, 3], &[GpuAsk::Share(600)]), Rule::FirstFit, 1).unwrap();
        assert_eq!(result.capacity, 5000);
        assert_eq!(result.points.len(), ARRIVED_MAX + 1);
        assert_eq!(result.points[0], Point::default());
        let point = |arrived, allocated, tasks, failed| Point {
            arrived,
            allocated,
            tasks,
            failed,
        };
        assert_eq!(result.points[50], point(3000, 3000, 5, 0));
        assert_eq!(result.full(), point(5400, 3000, 9, 4));
        assert_eq!(result.end(), point(6600, 3000, 11, 6));
        assert_eq!(result.percent(result.end().allocated), 60.0);
    }

    #[test]
    fn a_task_that_is_too_large_fails_and_the_next_one_comes() {
        let asks = [GpuAsk::Whole(3), GpuAsk::Whole(1)];
        let result = inflate(&trace(&[2, 2], &asks), Rule::BestFit, 1).unwrap();
        let end = result.end();
        assert!(end.allocated <= 4000 && end.failed > 0, "{end:?}");
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let asks = [GpuAsk::Share(300), GpuAsk::Whole(1), GpuAsk::Share(700)];
        let of = |rule, seed| inflate(&trace(&[4; 16], &asks), rule, seed).unwrap();
        for rule in [Rule::FirstFit, Rule::Fragmentation] {
            assert_eq!(of(rule, 7), of(rule, 7));
            assert_ne!(of(rule, 7), of(rule, 8));
        }
        let arrived = |rule| {
            of(rule, 7)
                .points
                .iter()
                .map(|point| point.arrived)
                .collect()
        };
        let (one, other): (Vec<u64>, Vec<u64>) = (arrived(Rule::FirstFit), arrived(Rule::BestFit));
        assert_eq!(one, other, "the same tasks come for every rule");
    }

    #[test]
    fn tasks_that_ask_for_next_to_nothing_end_it() {
        let mut trace = trace(&[128; 100], &[GpuAsk::Share(1)]);
        trace.tasks[0].cpu_milli = u32::MAX;
        let error = inflate(&trace, Rule::FirstFit, 1).unwrap_err();
        assert!(error.to_string().contains("too little to fill them"));
    }
}
