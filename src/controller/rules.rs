//! Partitions, accounts, users and QOS when the controller starts: as the store holds them, or, in a new one, as the
//! configuration says. A configuration that says otherwise later is warned of and not applied: an administrator's last
//! word on the command line would be undone by the next start.

use crate::cluster::Cluster;
use crate::config::Config;
use crate::model::refusal::Refusal;
use crate::model::rules::Rules;

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
    use crate::model::rules::Noun;
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
