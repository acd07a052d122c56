//! What goes up and down over a simulated time, in a bounded number of parts however long it takes.

use crate::model::time::Timestamp;

/// Most parts.
const PARTS_MAX: usize = 1024;
/// How long a part is at first; milliseconds.
const WIDTH_MS: i64 = 1_000;

/// How much there is at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// Elements of jobs that wait.
    pub waiting: u64,
    /// Cpus that are held.
    pub cpus: u64,
    /// GPUs that are held.
    pub gpus: u64,
}

/// A level times milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Area {
    /// Waiting.
    pub waiting: u128,
    /// Cpus.
    pub cpus: u128,
    /// GPUs.
    pub gpus: u128,
}

impl Area {
    fn add(&mut self, level: Level, span_ms: i64) {
        let span = u128::try_from(span_ms).unwrap_or(0);
        self.waiting += u128::from(level.waiting) * span;
        self.cpus += u128::from(level.cpus) * span;
        self.gpus += u128::from(level.gpus) * span;
    }

    fn plus(self, other: Area) -> Area {
        Area {
            waiting: self.waiting + other.waiting,
            cpus: self.cpus + other.cpus,
            gpus: self.gpus + other.gpus,
        }
    }
}

/// Levels over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Curve {
    /// Where it begins.
    pub begin: Timestamp,
    /// How long each part is; milliseconds.
    pub width_ms: i64,
    /// The parts, one after another.
    pub parts: Vec<Area>,
    last: Timestamp,
    level: Level,
}

impl Curve {
    /// From this time on, with nothing.
    #[must_use]
    pub fn new(begin: Timestamp) -> Self {
        Curve {
            begin,
            width_ms: WIDTH_MS,
            parts: Vec::new(),
            last: begin,
            level: Level::default(),
        }
    }

    /// From now on it is so much.
    pub fn step(&mut self, now: Timestamp, level: Level) {
        let most = i64::try_from(PARTS_MAX).unwrap_or(i64::MAX);
        while now.minus(self.begin) >= self.width_ms.saturating_mul(most) {
            self.halve();
        }
        let mut from = self.last.minus(self.begin);
        let until = now.minus(self.begin);
        while from < until {
            let at = from / self.width_ms;
            let to = until.min((at + 1) * self.width_ms);
            let at = usize::try_from(at).unwrap_or(0);
            if self.parts.len() <= at {
                self.parts.resize(at + 1, Area::default());
            }
            self.parts[at].add(self.level, to - from);
            from = to;
        }
        self.last = self.last.max(now);
        self.level = level;
    }

    /// Two parts become one.
    fn halve(&mut self) {
        self.width_ms = self.width_ms.saturating_mul(2);
        let pairs = self.parts.chunks(2);
        let sum = |pair: &[Area]| pair.iter().fold(Area::default(), |sum, one| sum.plus(*one));
        self.parts = pairs.map(sum).collect();
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> Area {
        let parts = self.parts.iter();
        parts.fold(Area::default(), |sum, one| sum.plus(*one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_kept_however_long_it_takes() {
        let mut curve = Curve::new(Timestamp(500));
        let level = |cpus| Level {
            waiting: 1,
            cpus,
            gpus: 0,
        };
        curve.step(Timestamp(500), level(3));
        curve.step(Timestamp(2_000), level(5));
        assert_eq!(curve.parts[0].cpus, 3_000);
        assert_eq!(curve.parts[1].cpus, 1_500);
        let end = 500 + 10_000_000_000;
        curve.step(Timestamp(end), level(0));
        let expected = 3 * 1_500 + 5 * (10_000_000_000 - 1_500);
        assert_eq!(curve.total().cpus, expected);
        assert_eq!(curve.total().waiting, 10_000_000_000);
        assert!(curve.parts.len() <= PARTS_MAX);
        curve.step(Timestamp(end + 1), level(9));
        assert_eq!(curve.total().cpus, expected);
    }
}
