//! The audit: a line for every call that changed something, in the commit that made the change. Refusals are kept
//! where they may be an attack: of invitations, of newcomers, of nodes and people.

use crate::cluster::{Command, Principal, Reply};
use crate::model::audit::{AuditRecord, TEXT_MAX};
use crate::model::identity::Identity;
use crate::model::refusal::Refusal;
use crate::model::time::Timestamp;
use crate::wire::client::{Filter, NodeChange};

/// A line whose outcome is not known yet.
pub(super) struct Draft {
    who: String,
    from: String,
    what: String,
    /// A refusal is worth a line too.
    sensitive: bool,
}

/// The line of a command that somebody gave; reports and timers leave none.
pub(super) fn draft(command: &Command) -> Option<Draft> {
    let by = |who: &Principal, what: String| Draft {
        who: who.owner.name.to_string(),
        from: who.from.to_string(),
        what,
        sensitive: false,
    };
    let sensitive = |draft: Draft| Draft {
        sensitive: true,
        ..draft
    };
    let draft = match command {
        Command::Submit { dry_run: true, .. } => return None,
        Command::Submit { who, spec, .. } => by(who, format!("submit {}", spec.name)),
        Command::Cancel { who, filter } => by(who, format!("cancel {}", of(filter))),
        Command::Signal {
            who,
            filter,
            signal,
            ..
        } => by(who, format!("signal {signal} {}", of(filter))),
        Command::Hold { who, filter } => by(who, format!("hold {}", of(filter))),
        Command::Release { who, filter } => by(who, format!("release {}", of(filter))),
        Command::Requeue { who, filter, .. } => by(who, format!("requeue {}", of(filter))),
        Command::Suspend { who, filter, stop } => {
            let verb = if *stop { "suspend" } else { "resume" };
            by(who, format!("{verb} {}", of(filter)))
        }
        Command::Update {
            who,
            filter,
            changes,
            ..
        } => by(who, format!("update {} {changes:?}", of(filter))),
        Command::StartStep { who, request, .. } => {
            by(who, format!("start a step in job {}", request.raw_job))
        }
        Command::EndAllocation { who, job, .. } => by(who, format!("end allocation {job}")),
        Command::ChangeNode { who, name, change } => {
            let verb = match change {
                NodeChange::Drain { reason } => format!("node drain {name}: {reason}"),
                NodeChange::Resume => format!("node resume {name}"),
                NodeChange::Remove => format!("node remove {name}"),
                NodeChange::Expel => format!("node remove --force {name}"),
            };
            sensitive(by(who, verb))
        }
        Command::Invite {
            who, grant, uses, ..
        } => sensitive(by(who, format!("invite {grant}, {uses} uses"))),
        Command::Withdraw { who, grant } => {
            sensitive(by(who, format!("withdraw invitations: {grant}")))
        }
        Command::ChangeRule { who, change } => sensitive(by(who, change.to_string())),
        Command::RevokeUser { who, name } => sensitive(by(who, format!("user revoke {name}"))),
        Command::Join(newcomer) => Draft {
            who: newcomer.name.clone(),
            from: newcomer.from.clone(),
            what: format!("{JOINING} {}", newcomer.key),
            sensitive: true,
        },
        Command::Renew { key } => Draft {
            who: key.to_string(),
            from: String::new(),
            what: "renew the certificate".to_owned(),
            sensitive: true,
        },
        Command::ClientGone { .. }
        | Command::Register { .. }
        | Command::LinkLost { .. }
        | Command::NodeLeaves { .. }
        | Command::Report { .. }
        | Command::Adopt(_)
        | Command::CloseIdle
        | Command::ClockStepped { .. }
        | Command::Tick => return None,
    };
    Some(draft)
}

/// Most refused newcomers in the audit within a minute: more are dropped, or they could wash out what others did.
const STRANGERS_MAX: u32 = 20;

/// How many refused newcomers the last minute had.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    minute: i64,
    count: u32,
}

impl Strangers {
    /// Whether a line is to be kept.
    pub(super) fn admit(&mut self, line: &AuditRecord) -> bool {
        if line.refused.is_none() || !line.what.starts_with(JOINING) {
            return true;
        }
        let minute = line.at.0.div_euclid(60_000);
        if minute != self.minute {
            *self = Strangers { minute, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= STRANGERS_MAX
    }
}

/// How the line of a newcomer begins.
const JOINING: &str = "join with key";

/// The jobs that a filter names, in the words of a command line.
fn of(filter: &Filter) -> String {
    let jobs = filter
        .jobs
        .iter()
        .take(20)
        .map(|selector| match &selector.indices {
            Some(indices) => format!("{}_[{indices}]", selector.job),
            None => selector.job.to_string(),
        });
    let mut words: Vec<String> = jobs.collect();
    if filter.jobs.len() > words.len() {
        words.push(format!("and {} more", filter.jobs.len() - words.len()));
    }
    for (option, values) in [
        ("--user", &filter.users),
        ("--partition", &filter.partitions),
        ("--name", &filter.names),
    ] {
        if !values.is_empty() {
            words.push(format!("{option} {}", values.join(",")));
        }
    }
    if words.is_empty() {
        "all jobs".to_owned()
    } else {
        words.join(" ")
    }
}

impl Draft {
    /// The line, once the outcome is known; `None` for a refusal that is nobody's concern.
    pub(super) fn finish(
        self,
        now: Timestamp,
        outcome: &Result<Reply, Refusal>,
    ) -> Option<AuditRecord> {
        let refused = outcome.as_ref().err().map(|refusal| refusal.code);
        if refused.is_some() && !self.sensitive {
            return None;
        }
        let mut what = self.what;
        if let Ok(Reply::Submitted(job)) = outcome {
            what = format!("{what}: job {job}");
        }
        let mut who = self.who;
        if let Ok(Reply::Joined { identity, .. }) = outcome {
            // A person's key brings no name: the invitation has it.
            let (Identity::Node(name) | Identity::User { name, .. }) = identity;
            who.clone_from(name);
        }
        let cut = |mut text: String| {
            let end = (0..=TEXT_MAX.min(text.len()))
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
            text
        };
        Some(AuditRecord {
            at: now,
            who: cut(who),
            from: cut(self.from),
            what: cut(what),
            refused,
        })
    }
}
