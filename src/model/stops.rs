//! What is stopped to go on later: for whom, since when, and for how long it was before.

use super::ids::JobId;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How a slot is or was stopped. Its limit counts the time in which it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stops {
    /// The job to which its cpus were lent; it goes on by itself once it has them back.
    pub lent_to: Option<JobId>,
    /// Since when it is stopped, by whomever; `None` = it is not.
    pub since: Option<Timestamp>,
    /// For how long what it runs was stopped before; milliseconds.
    pub past_ms: i64,
    /// How many slots lay below it when it was granted, of which each had lent cpus to the next; 0 = its cpus were free.
    pub depth: u32,
}

impl Stops {
    /// It is stopped from now on, or goes on.
    pub fn turn(&mut self, stopped: bool, now: Timestamp) {
        match self.since {
            None if stopped => self.since = Some(now),
            Some(since) if !stopped => {
                self.since = None;
                self.past_ms = self.past_ms.saturating_add(now.minus(since).max(0));
            }
            None | Some(_) => {}
        }
    }

    /// What it runs from now on was never stopped.
    pub fn forget(&mut self, now: Timestamp) {
        self.past_ms = 0;
        self.since = self.since.map(|_| now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_adds_up() {
        let mut stops = Stops::default();
        stops.turn(false, Timestamp(50));
        stops.turn(true, Timestamp(100));
        stops.turn(true, Timestamp(200));
        assert_eq!(stops.since, Some(Timestamp(100)));
        stops.turn(false, Timestamp(400));
        stops.turn(true, Timestamp(1000));
        // A clock that was set back takes nothing away.
        stops.turn(false, Timestamp(900));
        assert_eq!((stops.since, stops.past_ms), (None, 300));
        stops.turn(true, Timestamp(1000));
        stops.forget(Timestamp(1500));
        assert_eq!((stops.since, stops.past_ms), (Some(Timestamp(1500)), 0));
    }
}
