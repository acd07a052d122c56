//! decide: may the rules be changed so? What jobs still need cannot be taken away.

use super::command::Principal;
use super::{Cluster, Event, Reply};
use crate::model::identity::Role;
use crate::model::job::Job;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{Act, Noun, RuleChange};

pub(super) fn change(
    cluster: &Cluster,
    who: &Principal,
    change: &RuleChange,
) -> Result<(Reply, Vec<Event>), Refusal> {
    if who.role < Role::Admin {
        let what = format!("{} may not change a {}", who.owner.name, change.noun);
        let hint = "only an administrator may; `hpc limits` shows what holds for you";
        return Err(Refusal::new(Code::NotPermitted, what, hint));
    }
    let rules = cluster.rules.change(change)?;
    if change.act == Act::Remove {
        let named = |job: &Job| match change.noun {
            Noun::Partition => *job.spec.partition == *change.name,
            Noun::Account => *job.spec.account == *change.name,
            Noun::Qos => *job.spec.qos == *change.name,
            Noun::User => false,
        };
        let jobs = cluster.jobs.values().filter(|job| named(job)).count();
        if jobs > 0 {
            let what = format!(
                "{jobs} jobs of {} `{}` have not ended",
                change.noun, change.name
            );
            let hint = "cancel them or wait for their ends";
            return Err(Refusal::new(Code::Conflict, what, hint));
        }
    }
    Ok((Reply::Done, vec![Event::RulesChanged(Box::new(rules))]))
}
