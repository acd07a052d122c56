//! What becomes of a job that has to make room for a more important one.

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreemptMode {
    /// It is left alone.
    Off,
    /// It is put back and runs again; one that may not run twice is ended.
    Requeue,
    /// It is ended.
    Cancel,
    /// It is stopped and goes on later: its cpus are lent, its memory, GPUs and licences stay its own.
    Suspend,
}

impl PreemptMode {
    /// Every mode.
    pub const ALL: [PreemptMode; 4] = [
        PreemptMode::Off,
        PreemptMode::Requeue,
        PreemptMode::Cancel,
        PreemptMode::Suspend,
    ];

    /// Its word in settings.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            PreemptMode::Off => "off",
            PreemptMode::Requeue => "requeue",
            PreemptMode::Cancel => "cancel",
            PreemptMode::Suspend => "suspend",
        }
    }

    /// The mode of this word.
    ///
    /// # Errors
    /// What can be written.
    pub fn parse(word: &str) -> Result<Self, String> {
        let mut modes = PreemptMode::ALL.into_iter();
        modes.find(|mode| mode.word() == word).ok_or_else(|| {
            let words = PreemptMode::ALL.map(PreemptMode::word).join(", ");
            format!("write one of: {words}")
        })
    }
}

/// How jobs of a partition or QOS make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Yielding {
    /// What becomes of them.
    pub mode: PreemptMode,
    /// Between the warning (SIGTERM) and the end; seconds.
    pub grace_s: u32,
    /// They are left alone for so long after their start; seconds.
    pub exempt_s: u32,
}

impl Yielding {
    /// At once, in this way.
    #[must_use]
    pub const fn at_once(mode: PreemptMode) -> Self {
        Yielding {
            mode,
            grace_s: 0,
            exempt_s: 0,
        }
    }
}
