//! decide: may the rules be changed so? What jobs still need cannot be taken away. And what follows once they are.

use super::command::Principal;
use super::{Cluster, Event, Reply, reservations};
use crate::model::fading::Fading;
use crate::model::identity::Role;
use crate::model::job::Job;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{Act, Noun, RuleChange, Rules};
use crate::model::time::Timestamp;
use std::sync::Arc;

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
    let mut events = Vec::new();
    let kept;
    let change = match forgets(cluster, change)? {
        Some((forgotten, rest)) => {
            events.push(forgotten);
            if rest.settings.is_empty() {
                return Ok((Reply::Done, events));
            }
            kept = rest;
            &kept
        }
        None => change,
    };
    let mut rules = cluster.rules.change(change)?;
    if is_own {
        reservations::may_alone(cluster, now, who, change, &rules)?;
    }
    if change.noun == Noun::Reservation && change.act != Act::Remove {
        rules = reservations::place(cluster, now, rules, &change.name)?;
        if is_own {
            reservations::within_limits(cluster, now, who, &rules)?;
        }
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
    events.push(Event::RulesChanged(Box::new(rules)));
    Ok((Reply::Done, events))
}

/// `failures=0` of a node is no rule: it forgets what the cluster has counted. The rest of the change is one.
fn forgets(cluster: &Cluster, change: &RuleChange) -> Result<Option<(Event, RuleChange)>, Refusal> {
    let said = change.settings.iter().find(|(key, _)| key == "failures");
    let Some((_, value)) = said.filter(|_| change.noun == Noun::Node) else {
        return Ok(None);
    };
    let name = &change.name;
    if value != "0" {
        let what = format!("node {name}: failures={value}: they are counted, not set");
        let hint = format!("`hpc node set {name} failures=0` forgets them");
        return Err(Refusal::new(Code::Invalid, what, hint));
    }
    let Some(node) = cluster.nodes.values().find(|node| node.name() == name) else {
        let what = format!("there is no node `{name}`");
        return Err(Refusal::new(Code::UnknownNode, what, "see `hpc nodes`"));
    };
    let mut rest = change.clone();
    rest.settings.retain(|(key, _)| key != "failures");
    let forgotten = Event::FailuresChanged {
        node: node.id,
        failures: Fading::default(),
    };
    Ok(Some((forgotten, rest)))
}

impl Cluster {
    /// The rules are as these; what of them differs is stored.
    pub(super) fn rules_changed(&mut self, rules: Rules) {
        for noun in Noun::ALL {
            let before = self.rules.names(noun).into_iter();
            for name in before.chain(rules.names(noun)) {
                if self.rules.settings(noun, name) != rules.settings(noun, name) {
                    self.touched.rules.insert((noun, name.to_owned()));
                }
            }
        }
        let licenses = self.rules.licenses != rules.licenses;
        let nodes = self.rules.nodes != rules.nodes;
        self.booked_until = Timestamp::default();
        self.rules = Arc::new(rules);
        if licenses {
            self.licenses_changed();
        } else if nodes {
            // Their cables may go elsewhere.
            self.survey();
        }
    }
}
