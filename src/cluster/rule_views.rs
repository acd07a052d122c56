//! What is shown of partitions, accounts, users and QOS, and which limits they put on a job.

use super::Snapshot;
use super::command::Principal;
use crate::model::limits::{Level, LimitKind};
use crate::model::node::FAILURES_HALF_LIFE_S;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{NORMAL, Noun, Rules};
use crate::model::time::Timestamp;
use crate::wire::view::{LimitView, LimitsView, RuleView};

/// All of a noun, or of every noun.
#[must_use]
pub fn rule_views(rules: &Rules, noun: Option<Noun>) -> Vec<RuleView> {
    let nouns = Noun::ALL.into_iter();
    let nouns = nouns.filter(|one| noun.is_none_or(|wanted| wanted == *one));
    let all = nouns.flat_map(|noun| {
        let names = rules.names(noun).into_iter();
        names.map(move |name| RuleView {
            noun,
            name: name.to_owned(),
            settings: rules.all_settings(noun, name).unwrap_or_default(),
        })
    });
    all.collect()
}

/// The same, and of nodes how often they were lost of late.
#[must_use]
pub fn rule_views_at(snapshot: &Snapshot, noun: Option<Noun>, now: Timestamp) -> Vec<RuleView> {
    let mut views = rule_views(&snapshot.rules, noun);
    if noun.is_some_and(|noun| noun != Noun::Node) {
        return views;
    }
    for node in snapshot.nodes.values() {
        let failures = node.failures.at(now, FAILURES_HALF_LIFE_S);
        // Less than this is not shown.
        if failures < 0.005 {
            continue;
        }
        let setting = ("failures".to_owned(), format!("{failures:.2}"));
        let same = |view: &&mut RuleView| view.noun == Noun::Node && view.name == node.name();
        match views.iter_mut().find(same) {
            Some(view) => view.settings.push(setting),
            None => views.push(RuleView {
                noun: Noun::Node,
                name: node.name().to_owned(),
                settings: vec![setting],
            }),
        }
    }
    views
}

/// A job whose limits are asked for, as far as it is named.
#[derive(Debug, Clone, Default)]
pub struct JobOf {
    /// Whose; `None` = of who asks.
    pub user: Option<String>,
    /// In which account; `None` = as admission chooses, and so on.
    pub account: Option<String>,
    /// In which partition.
    pub partition: Option<String>,
    /// With which QOS.
    pub qos: Option<String>,
}

/// Every kind of limit for such a job.
///
/// # Errors
/// A name that does not exist, or another person's limits for somebody who is no operator.
pub fn limits_view(rules: &Rules, who: &Principal, of: JobOf) -> Result<LimitsView, Refusal> {
    let user = of.user.unwrap_or_else(|| who.owner.name.to_string());
    if *user != *who.owner.name && !who.is_operator() {
        let what = format!("{} may not see the limits of {user}", who.owner.name);
        let hint = "only an operator may; leave --user out to see your own";
        return Err(Refusal::new(Code::NotPermitted, what, hint));
    }
    let known = rules.user(&user);
    let default_qos = known.default_qos.unwrap_or_else(|| NORMAL.to_owned());
    let default_partition = rules.default_partition().map(|known| known.name.clone());
    let named = |noun, name: String| match rules.has(noun, &name) {
        true => Ok(name),
        false => Err(rules.unknown(noun, &name)),
    };
    let account = named(Noun::Account, of.account.unwrap_or(known.account))?;
    let partition = of.partition.or(default_partition).unwrap_or_default();
    let partition = named(Noun::Partition, partition)?;
    let qos = named(Noun::Qos, of.qos.unwrap_or(default_qos))?;
    let kinds = LimitKind::ALL.into_iter();
    let limits = kinds.flat_map(|kind| {
        let found = holding(rules, kind, [&partition, &qos, &user, &account]);
        let mut views: Vec<LimitView> = found
            .into_iter()
            .map(|(level, value)| LimitView {
                kind,
                value: Some(value),
                level: Some(level),
                used: None,
            })
            .collect();
        if views.is_empty() {
            views.push(LimitView {
                kind,
                value: None,
                level: None,
                used: None,
            });
        }
        views
    });
    Ok(LimitsView {
        limits: limits.collect(),
        user,
        account,
        partition,
        qos,
    })
}

/// Where a limit of this kind is set that holds for a job of this partition, QOS, user and account.
fn holding(rules: &Rules, kind: LimitKind, of: [&str; 4]) -> Vec<(Level, u64)> {
    let [partition, qos, user, account] = of;
    let levels = rules.levels(partition, qos, user, account).into_iter();
    let mut found: Vec<(Level, u64)> = levels
        .filter_map(|(level, limits)| Some((level, limits.get(kind)?)))
        .collect();
    if !kind.is_of_group() {
        found.truncate(1);
    }
    // A partition's longest time is its own beside that of the other levels.
    let partition = rules.partitions.get(partition);
    if let Some(known) = partition.filter(|_| kind == LimitKind::MaxTime)
        && let Some(most) = known.max_time_s
    {
        found.insert(0, (Level::Partition(known.name.clone()), u64::from(most)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::Role;
    use crate::model::job::Owner;

    fn rules() -> Rules {
        let said = |noun, name: &str, text: &str| {
            let settings = text
                .split_whitespace()
                .filter_map(|one| one.split_once('='));
            let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
            (noun, name.to_owned(), settings.collect())
        };
        let said = [
            said(
                Noun::Account,
                "physics",
                "group-cpus=64 max-jobs-per-user=9",
            ),
            said(Noun::Account, "optics", "parent=physics group-cpus=16"),
            said(
                Noun::User,
                "ann",
                "account=optics default-qos=high max-jobs-per-user=4",
            ),
            said(Noun::Qos, "high", "max-time=1h group-jobs=2"),
        ];
        Rules::initial().with_settings(&said).unwrap()
    }

    fn person(name: &str, role: Role) -> Principal {
        Principal {
            owner: Owner {
                uid: 1000,
                gid: 1000,
                name: name.into(),
            },
            role,
            from: "here".into(),
        }
    }

    fn shown(view: &LimitsView) -> Vec<String> {
        let set = view.limits.iter().filter_map(|limit| {
            let (value, level) = (limit.value?, limit.level.as_ref()?);
            Some(format!("{}={} {level}", limit.kind, limit.kind.show(value)))
        });
        set.collect()
    }

    #[test]
    fn the_first_level_decides_and_every_group_holds() {
        let ann = person("ann", Role::Viewer);
        let view = limits_view(&rules(), &ann, JobOf::default()).unwrap();
        assert_eq!(
            [&view.user, &view.account, &view.partition, &view.qos],
            ["ann", "optics", "batch", "high"]
        );
        assert_eq!(
            shown(&view),
            [
                "max-jobs-per-user=4 user ann",
                "max-time=1-00:00:00 partition batch",
                "max-time=01:00:00 QOS high",
                "group-jobs=2 QOS high",
                "group-cpus=16 account optics",
                "group-cpus=64 account physics",
            ]
        );
        for kind in LimitKind::ALL {
            assert!(view.limits.iter().any(|limit| limit.kind == kind), "{kind}");
        }
        let of = JobOf {
            account: Some("physics".to_owned()),
            qos: Some("normal".to_owned()),
            partition: Some("interactive".to_owned()),
            user: Some("ann".to_owned()),
        };
        let view = limits_view(&rules(), &ann, of).unwrap();
        assert_eq!(
            shown(&view),
            [
                "max-jobs-per-user=4 user ann",
                "max-time=7-00:00:00 partition interactive",
                "group-cpus=64 account physics",
            ]
        );
    }

    #[test]
    fn another_persons_limits_are_for_operators() {
        let of = |user: &str| JobOf {
            user: Some(user.to_owned()),
            ..JobOf::default()
        };
        let refused = limits_view(&rules(), &person("bob", Role::User), of("ann"));
        assert_eq!(refused.unwrap_err().code, Code::NotPermitted);
        let seen = limits_view(&rules(), &person("bob", Role::Operator), of("ann")).unwrap();
        assert_eq!(seen.account, "optics");
        // Of whom nothing is said.
        let own = limits_view(&rules(), &person("bob", Role::User), of("bob")).unwrap();
        assert_eq!([&own.account, &own.qos], ["default", "normal"]);
        let wrong = JobOf {
            qos: Some("fast".to_owned()),
            ..JobOf::default()
        };
        let wrong = limits_view(&rules(), &person("bob", Role::User), wrong);
        assert_eq!(wrong.unwrap_err().code, Code::UnknownQos);
    }

    #[test]
    fn all_that_holds_is_shown() {
        let all = rule_views(&rules(), None);
        let names: Vec<String> = all
            .iter()
            .map(|view| format!("{} {}", view.noun, view.name))
            .collect();
        assert_eq!(
            names,
            [
                "partition batch",
                "partition interactive",
                "account default",
                "account optics",
                "account physics",
                "account root",
                "user ann",
                "qos high",
                "qos normal"
            ]
        );
        let users = rule_views(&rules(), Some(Noun::User));
        let settings: Vec<String> = users[0]
            .settings
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            settings.join(" "),
            "account=optics accounts=none shares=1 qos=all default-qos=high max-jobs-per-user=4"
        );
    }
}
