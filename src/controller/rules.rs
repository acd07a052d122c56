//! Partitions, accounts, users and QOS: at the start of the controller, and as answers to who asks.
//!
//! They begin as the store holds them, or, in a new one, as the configuration says. A configuration that says otherwise
//! later is warned of and not applied: an administrator's last word on the command line would be undone by the next
//! start.

use super::run::{Shared, now};
use crate::cluster::rule_views;
use crate::config::Config;
use crate::model::refusal::{Code, Refusal};
use crate::model::rules::{Noun, Rules};
use crate::wire::client::ToClient;
use crate::wire::codec::FRAME_MAX;

/// What stands around a text in an answer: more than the length before it.
const AROUND: usize = 8;

/// What is decided of a noun, or of all.
pub(super) fn list(shared: &Shared, noun: Option<Noun>) -> Result<ToClient, Refusal> {
    let views = rule_views::rule_views_at(&shared.snapshot.load(), noun, now());
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

/// The rules to begin with, and whether they are still to be stored.
pub(super) fn begin(stored: Option<Rules>, config: &Config) -> Result<(Rules, bool), Refusal> {
    let said = config.rules();
    let Some(rules) = stored else {
        return Ok((Rules::initial().with_settings(&said)?, true));
    };
    for difference in rules.differences(&said) {
        tracing::warn!("{difference}");
    }
    Ok((rules, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::changes::Counters;
    use crate::cluster::{Cluster, Settings};
    use crate::model::time::Timestamp;

    #[test]
    fn the_configuration_counts_where_nothing_is_stored() {
        let config = Config::parse("[qos.normal]\nmax-jobs-per-user = 1\n[qos.high]").unwrap();
        let (rules, new) = begin(None, &config).unwrap();
        assert!(new);
        let (settings, counters) = (Settings::default(), Counters::default());
        let cluster = Cluster::with_rules(
            rules,
            settings,
            counters,
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Timestamp(0),
        );
        let mut cluster = cluster.storing_rules();
        let rules = cluster.take_changes().rules;
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
        assert!(cluster.take_changes().is_empty(), "stored once");

        let (rules, new) = begin(Some(Rules::initial()), &config).unwrap();
        assert!(!new && rules == Rules::initial());
    }

    #[test]
    fn what_names_nothing_is_told_at_the_first_start() {
        let config = Config::parse("[user.ann]\naccount = \"physics\"").unwrap();
        let refusal = begin(None, &config).unwrap_err();
        assert!(refusal.what.contains("user `ann` names account `physics`"));
        // The account may have been made by hand since, or removed.
        assert!(begin(Some(Rules::initial()), &config).is_ok());
    }
}
