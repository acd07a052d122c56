//! What is free when: a step function of time, for reservations.

/// Free processors over time. From each point on so many are free, until the next; after the last for ever.
#[derive(Debug, Clone)]
pub struct Timeline {
    points: Vec<(i64, i64)>,
}

impl Timeline {
    /// So many free from `now` on.
    #[must_use]
    pub fn new(now: i64, free: u32) -> Self {
        Timeline {
            points: vec![(now, i64::from(free))],
        }
    }

    /// The past is of no interest any more.
    pub fn forget_before(&mut self, now: i64) {
        let first = self.points.partition_point(|(at, _)| *at <= now);
        if first > 1 {
            self.points.drain(..first - 1);
        }
        if let Some(first) = self.points.first_mut() {
            first.0 = first.0.max(now);
        }
    }

    /// The earliest time from `from` on at which so many are free for so long.
    #[must_use]
    pub fn earliest(&self, from: i64, processors: u32, length: i64) -> Option<i64> {
        let wanted = i64::from(processors);
        let mut begin = None;
        let last = self.points.len().checked_sub(1)?;
        let first = self.points.partition_point(|(at, _)| *at <= from).max(1) - 1;
        for at in first..=last {
            let (time, free) = self.points[at];
            if free < wanted {
                begin = None;
                continue;
            }
            let since = *begin.get_or_insert(time.max(from));
            let until = self.points.get(at + 1).map_or(i64::MAX, |next| next.0);
            if until.saturating_sub(since) >= length {
                return Some(since);
            }
        }
        None
    }

    /// Takes so many (gives them back, where negative) from `begin` until before `end`.
    pub fn take(&mut self, begin: i64, end: i64, processors: i64) {
        if begin >= end {
            return;
        }
        let first = self.split(begin);
        let last = self.split(end);
        for point in &mut self.points[first..last] {
            point.1 -= processors;
        }
        // Equal neighbours are one.
        for at in [last, first] {
            if at > 0 && at < self.points.len() && self.points[at - 1].1 == self.points[at].1 {
                self.points.remove(at);
            }
        }
    }

    /// The place of a point at this time, which is made if there is none.
    fn split(&mut self, time: i64) -> usize {
        let at = self.points.partition_point(|(point, _)| *point < time);
        if self.points.get(at).is_none_or(|(point, _)| *point != time) {
            let free = self.points[at.saturating_sub(1)].1;
            self.points.insert(at, (time, free));
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_found_where_it_is_first() {
        let mut timeline = Timeline::new(0, 4);
        timeline.take(0, 10, 3);
        timeline.take(10, 20, 2);
        assert_eq!(timeline.earliest(0, 1, 100), Some(0));
        assert_eq!(timeline.earliest(0, 2, 5), Some(10));
        assert_eq!(timeline.earliest(0, 2, 100), Some(10));
        assert_eq!(timeline.earliest(0, 3, 1), Some(20));
        assert_eq!(timeline.earliest(12, 2, 1), Some(12));
        assert_eq!(timeline.earliest(0, 5, 1), None);
        // Given back, it is as before.
        timeline.take(10, 20, -2);
        timeline.take(0, 10, -3);
        assert_eq!(timeline.points, [(0, 4)]);
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut timeline = Timeline::new(0, 4);
        timeline.take(5, 10, 1);
        timeline.forget_before(7);
        assert_eq!(timeline.points, [(7, 3), (10, 4)]);
        timeline.forget_before(10);
        assert_eq!(timeline.points, [(10, 4)]);
    }
}
