//! Partitions, accounts, users and QOS: at the start of the controller, and as answers to who asks.
//!
//! They begin as the store holds them, or, in a new one, as the configuration says. A configuration that says otherwise
//! later is warned of and not applied: an administrator's last word on the command line would be undone by the next
//! start.

use super::run::Shared;
use crate::cluster::rule_views::{self, JobOf};
use crate::cluster::{Cluster, Principal};
use crate::config::Config;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{Noun, Rules};
use crate::wire::client::ToClient;
use crate::wire::codec::FRAME_MAX;

/// What stands around a text in an answer: more than the length before it.
const AROUND: usize = 8;

/// What is decided of a noun, or of all.
pub(super) fn list(shared: &Shared, noun: Option<Noun>) -> Result<ToClient, Refusal> {
    let views = rule_views::rule_views(&shared.snapshot.load().rules, noun);
    let texts = views.iter().flat_map(|view| {
        let settings = view.settings.iter();
        let settings = settings.flat_map(|(key, value)| [key, value]);
        settings.chain([&view.name])
    });
    let bytes: usize = texts.map(|text| text.len() + AROUND).sum();
    if bytes > FRAME_MAX {
        let what = format!("all of it has {bytes} bytes, an answer at most {FRAME_MAX}");
        let hint = "lists of names in settings are what is long: shorten some";
        return Err(Refusal::new(Code::TooMuch, what, hint));
    }
    Ok(ToClient::Rules(views))
}

/// Which limits hold for such a job.
pub(super) fn limits(shared: &Shared, who: &Principal, of: JobOf) -> Result<ToClient, Refusal> {
    let rules = &shared.snapshot.load().rules;
    let view = rule_views::limits_view(rules, who, of)?;
    Ok(ToClient::Limits(Box::new(view)))
}

/// A cluster with its rules.
pub(super) fn begin(
    cluster: Cluster,
    stored: Option<Rules>,
    config: &Config,
) -> Result<Cluster, Refusal> {
    let said = config.rules();
    let Some(rules) = stored else {
        return Ok(cluster.with_new_rules(Rules::initial().with_settings(&said)?));
    };
    for difference in rules.differences(&said) {
        tracing::warn!("{difference}");
    }
    Ok(cluster.with_rules(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Settings;
    use crate::cluster::changes::Counters;
    use crate::model::time::Timestamp;

    fn cluster() -> Cluster {
        Cluster::new(
            Settings::default(),
            Counters::default(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Timestamp(0),
        )
    }

    #[test]
    fn the_configuration_counts_where_nothing_is_stored() {
        let config = Config::parse("[qos.normal]\nmax-jobs-per-user = 1\n[qos.high]").unwrap();
        let mut new = begin(cluster(), None, &config).unwrap();
        let rules = new.take_changes().rules;
        let stored: Vec<String> = rules
            .iter()
            .map(|(noun, name, settings)| {
                format!("{noun} {name} {}", settings.as_ref().unwrap().len())
            })
            .collect();
        assert_eq!(
            stored,
            [
                "partition batch 2",
                "partition interactive 1",
                "account default 0",
                "account root 0",
                "qos high 0",
                "qos normal 1"
            ]
        );
        assert!(new.take_changes().is_empty(), "stored once");

        let mut old = begin(cluster(), Some(Rules::initial()), &config).unwrap();
        assert!(!old.rules().has(Noun::Qos, "high"));
        assert!(old.take_changes().is_empty());
    }

    #[test]
    fn what_names_nothing_is_told_at_the_first_start() {
        let config = Config::parse("[user.ann]\naccount = \"physics\"").unwrap();
        let refusal = begin(cluster(), None, &config).unwrap_err();
        assert!(refusal.what.contains("user `ann` names account `physics`"));
        // The account may have been made by hand since, or removed.
        assert!(begin(cluster(), Some(Rules::initial()), &config).is_ok());
    }
}
