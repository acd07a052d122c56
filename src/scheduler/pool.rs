//! What jobs are placed on, as the policies see it: something that can be found room in, taken from and given back to.
//!
//! A policy is written once, over a [`Pool`]. In a trace without places a processor is any processor ([`Processors`]),
//! which makes a replay of years take a moment.

/// What jobs are placed on.
pub trait Pool: Clone {
    /// What a job asks for.
    type Ask;
    /// What it is given.
    type Share: Clone;

    /// Room for this, if there is any.
    fn find(&self, ask: &Self::Ask) -> Option<Self::Share>;

    /// Room for this that is room in `other` too, if there is any.
    fn find_in_both(&self, other: &Self, ask: &Self::Ask) -> Option<Self::Share>;

    /// Takes what was found.
    fn take(&mut self, share: &Self::Share);

    /// Gives back what was taken.
    fn give(&mut self, share: &Self::Share);
}

/// Processors of which one is as good as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors(pub u32);

impl Pool for Processors {
    type Ask = u32;
    type Share = u32;

    fn find(&self, ask: &u32) -> Option<u32> {
        (*ask <= self.0).then_some(*ask)
    }

    fn find_in_both(&self, other: &Self, ask: &u32) -> Option<u32> {
        (*ask <= self.0.min(other.0)).then_some(*ask)
    }

    fn take(&mut self, share: &u32) {
        self.0 -= share;
    }

    fn give(&mut self, share: &u32) {
        self.0 += share;
    }
}
