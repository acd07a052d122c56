//! What jobs are placed on, as the policies see it: something that can be found room in, taken from and given back to.
//!
//! A policy is written once, over a [`Pool`]. In a trace without places a processor is any processor ([`Processors`]),
//! which makes a replay of years take a moment; a cluster is a pool of nodes ([`super::nodes::NodePool`]).

/// What jobs are placed on.
pub trait Pool: Clone + std::fmt::Debug {
    /// What a job asks for.
    type Ask<'r>;
    /// What it is given.
    type Share: Clone + std::fmt::Debug;

    /// Room for this, if there is any.
    fn find(&self, ask: &Self::Ask<'_>) -> Option<Self::Share>;

    /// Whether there is room for this.
    fn fits(&self, ask: &Self::Ask<'_>) -> bool {
        self.find(ask).is_some()
    }

    /// Room for this that is room in all of `others` too, if there is any.
    fn find_in_all(&self, others: &[&Self], ask: &Self::Ask<'_>) -> Option<Self::Share>;

    /// The same, for a job that will start later: where there is a choice, what is not free in `now` is chosen, so that as
    /// much as can be is left for those who start now.
    fn find_for_later(
        &self,
        others: &[&Self],
        now: &Self,
        ask: &Self::Ask<'_>,
    ) -> Option<Self::Share> {
        let _ = now;
        self.find_in_all(others, ask)
    }

    /// Whether there is room for exactly this share.
    fn holds(&self, share: &Self::Share) -> bool;

    /// Whether room for this can only come about where something is given back, so that [`Pool::fits_at`] finds it.
    fn is_local(ask: &Self::Ask<'_>) -> bool;

    /// Whether there is room for this at one of the places of a share.
    fn fits_at(&self, share: &Self::Share, ask: &Self::Ask<'_>) -> bool;

    /// Takes what was found.
    fn take(&mut self, share: &Self::Share);

    /// Gives back what was taken.
    fn give(&mut self, share: &Self::Share);
}

/// Processors of which one is as good as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processors(pub u32);

impl Pool for Processors {
    type Ask<'r> = u32;
    type Share = u32;

    fn find(&self, ask: &u32) -> Option<u32> {
        (*ask <= self.0).then_some(*ask)
    }

    fn find_in_all(&self, others: &[&Self], ask: &u32) -> Option<u32> {
        let everywhere = others.iter().all(|other| *ask <= other.0);
        (*ask <= self.0 && everywhere).then_some(*ask)
    }

    fn holds(&self, share: &u32) -> bool {
        *share <= self.0
    }

    fn is_local(_ask: &u32) -> bool {
        true
    }

    fn fits_at(&self, _share: &u32, ask: &u32) -> bool {
        *ask <= self.0
    }

    fn take(&mut self, share: &u32) {
        self.0 -= share;
    }

    fn give(&mut self, share: &u32) {
        self.0 += share;
    }
}
