//! decide: may the rules be changed so? What jobs still need cannot be taken away.

use super::command::Principal;
use super::{Cluster, Event, Reply, reservations};
use crate::model::identity::Role;
use crate::model::job::Job;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{Act, Noun, RuleChange};
use crate::model::time::Timestamp;

pub(super) fn change(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    change: &RuleChange,
) -> Result<(Reply, Vec<Event>), Refusal> {
    let (least, whose) = match change.noun {
        Noun::Reservation | Noun::Node => (Role::Operator, "an operator"),
        _ => (Role::Admin, "an administrator"),
    };
    let is_own = who.role < least && change.noun == Noun::Reservation;
    if who.role < least && !is_own {
        let what = format!("{} may not change a {}", who.owner.name, change.noun);
        let hint = format!("only {whose} may; `hpc limits` shows what holds for you");
        return Err(Refusal::new(Code::NotPermitted, what, hint));
    }
    let completed;
    let change = if change.noun == Noun::Reservation {
        completed = reservations::complete(who, change)?;
        &completed
    } else {
        change
    };
    let mut rules = cluster.rules.change(change)?;
    if is_own {
        reservations::may_alone(cluster, now, who, change, &rules)?;
    }
    if change.noun == Noun::Reservation && change.act != Act::Remove {
        rules = reservations::place(cluster, now, rules, &change.name)?;
    }
    if change.act == Act::Remove {
        let named = |job: &Job| match change.noun {
            Noun::Partition => *job.spec.partition == *change.name,
            Noun::Account => *job.spec.account == *change.name,
            Noun::Qos => *job.spec.qos == *change.name,
            Noun::License => {
                let mut licenses = job.spec.request.wishes.licenses.iter();
                licenses.any(|one| one.name == change.name)
            }
            Noun::Reservation => job.spec.request.wishes.reservation.as_ref() == Some(&change.name),
            Noun::User | Noun::Node => false,
        };
        let jobs = cluster.jobs.values().filter(|job| named(job));
        let jobs: Vec<String> = jobs.map(|job| job.id.to_string()).collect();
        if !jobs.is_empty() {
            let first = jobs.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            let more = if jobs.len() > 5 { ", ..." } else { "" };
            let what = format!(
                "{} jobs of {} `{}` have not ended: {first}{more}",
                jobs.len(),
                change.noun,
                change.name
            );
            let hint = "cancel them or wait for their ends";
            return Err(Refusal::new(Code::Conflict, what, hint));
        }
    }
    Ok((Reply::Done, vec![Event::RulesChanged(Box::new(rules))]))
}
