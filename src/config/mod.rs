//! What a configuration file may say: text in, validated [`Config`] out. Pure; a shell reads the file.
//!
//! No file is needed: every key has a default that suits a lab. `config/hpc.toml` is the commented sample;
//! a test holds it equal to the defaults. A key that nobody honours does not exist, and an unknown one is an
//! error, so a mistyped key is noticed.

use crate::model::reserve::Reserve;
use crate::model::rules::{Noun, Rules, Said};
use crate::model::user_map::UserMap;
use serde::Deserialize;
use std::collections::BTreeMap;

mod setting;

use setting::SettingText;

/// The controller's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the cluster, as jobs see it.
    pub cluster_name: String,
    /// A node from which nothing has come for this long is not responding; seconds.
    pub node_silent_after_s: u32,
    /// A node that has been silent this long is declared DOWN and its jobs NODE_FAIL; seconds.
    pub node_timeout_s: u32,
    /// A job of `--requeue` that is cut off from the controller for this long is ended by its node, and started
    /// elsewhere some time later; seconds.
    pub lease_s: u32,
    /// How long all nodes of a job over several may take to answer its start; then it goes back to the queue; seconds.
    pub gang_start_s: u32,
    /// Most jobs that wait or run at once; an array counts once.
    pub jobs_max: u32,
    /// Largest index of an array.
    pub array_index_max: u32,
    /// Ended jobs are forgotten after so many days; 0 = never.
    pub history_days: u32,
    /// Memory for reading the store; MiB.
    pub store_cache_mib: usize,
    /// How long a machine's or a person's certificate is good; seconds. It is renewed after two thirds of that.
    pub certificate_life_s: u32,
    /// Whether jobs of root run at all.
    pub allow_root_jobs: bool,
    /// Which jobs start when.
    pub policy: Policy,
    /// What each factor of a job's priority is worth.
    pub priority: Priority,
    /// What was used counts half for fair share after so long; seconds, 0 = it counts for ever.
    pub usage_half_life_s: u32,
    /// On a worker: so many cpus are not given to jobs, rounded up to whole cores.
    pub reserve_cpus: u32,
    /// On a worker: so much memory is not given to jobs; MiB.
    pub reserve_memory_mib: u64,
    /// On a worker: users of the cluster whose account on this machine has another name.
    pub users: UserMap,
    /// What a new cluster says of partitions, by name. Later, as of the next three, the cluster's own word counts.
    pub partition: Tables,
    /// Of accounts.
    pub account: Tables,
    /// Of users.
    pub user: Tables,
    /// Of QOS.
    pub qos: Tables,
    /// Of licences.
    pub license: Tables,
    /// Of nodes, their features.
    pub node: Tables,
}

/// Settings by key, by name of what they are of.
pub type Tables = BTreeMap<String, BTreeMap<String, SettingText>>;

/// Which jobs start when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// In order; the first that does not fit blocks its partition.
    Fcfs,
    /// The first of each partition that does not fit is kept a place; others start in the gaps.
    Easy,
    /// The same, gaps filled with the shortest first.
    EasySjbf,
    /// Each that does not fit is kept a place, up to a hundred.
    Conservative,
}

/// What each factor of a job's priority is worth; points.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Priority {
    /// For having waited `max_age_s`.
    pub age: u32,
    /// After which wait nothing more is added; seconds.
    pub max_age_s: u32,
    /// For the user who is furthest below the promised share.
    pub fair_share: u32,
    /// For the partition with the highest priority.
    pub partition: u32,
    /// For the QOS with the highest priority.
    pub qos: u32,
    /// For the largest job, or the smallest.
    pub size: u32,
    /// Small jobs are the ones that `size` favours.
    pub favour_small: bool,
    /// For asking for all cpus.
    pub cpus: u32,
    /// For asking for all GPUs.
    pub gpus: u32,
}

impl Default for Priority {
    fn default() -> Self {
        Priority {
            age: 10_000,
            max_age_s: 7 * 86_400,
            fair_share: 100_000,
            partition: 10_000,
            qos: 50_000,
            size: 0,
            favour_small: false,
            cpus: 0,
            gpus: 0,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster_name: "hpc".to_owned(),
            node_silent_after_s: 10,
            node_timeout_s: 300,
            lease_s: 600,
            gang_start_s: 30,
            jobs_max: 1_000_000,
            array_index_max: 4_000_000,
            history_days: 0,
            store_cache_mib: 32,
            certificate_life_s: 90 * 86_400,
            allow_root_jobs: true,
            policy: Policy::Easy,
            priority: Priority::default(),
            usage_half_life_s: 7 * 86_400,
            reserve_cpus: 0,
            reserve_memory_mib: 0,
            users: UserMap::default(),
            partition: Tables::new(),
            account: Tables::new(),
            user: Tables::new(),
            qos: Tables::new(),
            license: Tables::new(),
            node: Tables::new(),
        }
    }
}

/// Why a configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// A value outside its bounds.
    #[error("{key} = {value} is out of bounds: write a value from {least} to {most}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// What was written.
        value: u64,
        /// Smallest allowed.
        least: u64,
        /// Largest allowed.
        most: u64,
    },
    /// Two values that do not go together.
    #[error(
        "lease_s = {lease_s} is less than twice node_silent_after_s = {silent_after_s}: a connection that is merely slow would end jobs"
    )]
    ShortLease {
        /// The lease.
        lease_s: u32,
        /// When a node is silent.
        silent_after_s: u32,
    },
    /// A table of a partition, an account, a user or a QOS that says what cannot be.
    #[error("[{table}] {what}")]
    Rule {
        /// The table, such as `qos.normal`.
        table: String,
        /// The key with its value, and what is wrong.
        what: String,
    },
    /// A name that cannot be one.
    #[error("cluster_name = \"{0}\" is no name: use 1 to 64 letters, digits, '-', '_' and '.'")]
    ClusterName(String),
}

impl Config {
    /// Reads and checks a configuration; what it does not say has its default.
    ///
    /// # Errors
    /// As [`ConfigError`] says.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Config =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// What a worker keeps from jobs.
    #[must_use]
    pub fn reserve(&self) -> Reserve {
        Reserve {
            cpus: self.reserve_cpus,
            memory_mib: self.reserve_memory_mib,
        }
    }

    /// What it says of partitions, accounts, users and QOS. Each key and value is right by itself; whether there is
    /// what they name is for the cluster.
    #[must_use]
    pub fn rules(&self) -> Vec<Said> {
        let mut said = Vec::new();
        for (noun, tables) in self.tables() {
            for (name, table) in tables {
                let settings = table.iter();
                let settings = settings.map(|(key, value)| (key.clone(), value.0.clone()));
                said.push((noun, name.clone(), settings.collect()));
            }
        }
        said
    }

    fn tables(&self) -> [(Noun, &Tables); 6] {
        [
            (Noun::Partition, &self.partition),
            (Noun::Account, &self.account),
            (Noun::User, &self.user),
            (Noun::Qos, &self.qos),
            (Noun::License, &self.license),
            (Noun::Node, &self.node),
        ]
    }

    fn check_rules(&self) -> Result<(), ConfigError> {
        for (noun, name, settings) in self.rules() {
            let wrong = |what| ConfigError::Rule {
                table: format!("{noun}.{name}"),
                what,
            };
            Rules::check_name(noun, &name).map_err(|refusal| wrong(refusal.to_string()))?;
            for (key, value) in settings {
                let checked = Rules::check_setting(noun, &name, &key, &value);
                checked.map_err(|why| wrong(format!("{key} = {value}: {why}")))?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        check_name(&self.cluster_name)?;
        self.check_rules()?;
        let bounds = [
            (
                "node_silent_after_s",
                u64::from(self.node_silent_after_s),
                1,
                600,
            ),
            ("lease_s", u64::from(self.lease_s), 2, 7 * 86_400),
            (
                "node_timeout_s",
                u64::from(self.node_timeout_s),
                5,
                7 * 86_400,
            ),
            ("gang_start_s", u64::from(self.gang_start_s), 1, 3600),
            ("jobs_max", u64::from(self.jobs_max), 1, 50_000_000),
            (
                "array_index_max",
                u64::from(self.array_index_max),
                0,
                u64::from(crate::model::array::MAX_INDEX),
            ),
            ("history_days", u64::from(self.history_days), 0, 36_500),
            (
                "certificate_life_s",
                u64::from(self.certificate_life_s),
                5,
                10 * 366 * 86_400,
            ),
            (
                "reserve_cpus",
                u64::from(self.reserve_cpus),
                0,
                u64::from(u16::MAX),
            ),
            ("reserve_memory_mib", self.reserve_memory_mib, 0, 1 << 40),
            ("store_cache_mib", self.store_cache_mib as u64, 1, 65_536),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::OutOfBounds {
                    key,
                    value,
                    least,
                    most,
                });
            }
        }
        if self.lease_s < self.node_silent_after_s.saturating_mul(2) {
            return Err(ConfigError::ShortLease {
                lease_s: self.lease_s,
                silent_after_s: self.node_silent_after_s,
            });
        }
        Ok(())
    }
}

/// Whether a cluster may be called so.
///
/// # Errors
/// [`ConfigError::ClusterName`].
pub fn check_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ConfigError::ClusterName(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands behind comment signs too, or on lines of its own: keys, and the heads of tables.
    fn uncommented(text: &str) -> String {
        let lines = text.lines();
        let lines = lines.map(|line| line.strip_prefix("# ").unwrap_or(line));
        let is_key = |line: &&str| {
            line.starts_with('[')
                || line
                    .split_once(" = ")
                    .is_some_and(|(key, _)| !key.contains(' '))
        };
        lines
            .filter(is_key)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The same without what is said of partitions and so on, which has to be what a cluster begins with.
    fn without_rules(config: Config) -> Config {
        let rules = Rules::initial().with_settings(&config.rules()).unwrap();
        assert_eq!(rules, Rules::initial());
        Config {
            partition: Tables::new(),
            account: Tables::new(),
            user: Tables::new(),
            qos: Tables::new(),
            license: Tables::new(),
            node: Tables::new(),
            ..config
        }
    }

    /// The keys of the file, one for each field. Nothing is said of any user to begin with.
    const KEYS: usize = 20;

    #[test]
    fn the_sample_says_the_defaults_and_every_key() {
        let sample = include_str!("../../config/hpc.toml");
        assert_eq!(Config::parse(sample).unwrap(), Config::default());
        // Uncommented, it names every key with its default.
        let all = uncommented(sample);
        let table: toml::Table = all.parse().unwrap();
        assert_eq!(
            without_rules(Config::parse(&all).unwrap()),
            Config::default()
        );
        assert_eq!(
            table.len(),
            KEYS,
            "every key stands in the sample: {table:?}"
        );
    }

    #[test]
    fn the_packaged_file_differs_from_the_sample_in_jobs_of_root_alone() {
        let packaged = include_str!("../../packaging/hpc.toml");
        let expected = Config {
            allow_root_jobs: false,
            ..Config::default()
        };
        assert_eq!(Config::parse(packaged).unwrap(), expected);
        // What stands behind a comment sign is a default too, and no key is left out.
        let all = uncommented(packaged);
        let table: toml::Table = all.parse().unwrap();
        assert_eq!(without_rules(Config::parse(&all).unwrap()), expected);
        assert_eq!(table.len(), KEYS, "every key stands in it: {table:?}");
    }

    #[test]
    fn what_is_said_of_partitions_and_so_on_is_text_in_the_end() {
        let text = r#"
            [partition.gpu]
            max-time = "24h"
            default = true
            accounts = ["physics", "default"]
            [qos.normal]
            max-jobs-per-user = 1
            usage-factor = 0.5
            [account.physics]
            [user.ann]
            account = "physics"
        "#;
        let said = Config::parse(text).unwrap().rules();
        let said: Vec<String> = said
            .into_iter()
            .map(|(noun, name, settings)| {
                let settings = settings.into_iter();
                let settings = settings.map(|(key, value)| format!(" {key}={value}"));
                format!("{noun} {name}{}", settings.collect::<String>())
            })
            .collect();
        assert_eq!(
            said,
            [
                "partition gpu accounts=physics,default default=true max-time=24h",
                "account physics",
                "user ann account=physics",
                "qos normal max-jobs-per-user=1 usage-factor=0.5",
            ]
        );
        assert!(
            Rules::initial()
                .with_settings(&Config::parse(text).unwrap().rules())
                .is_ok()
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, named) in [
            ("node_timeout = 3", "node_timeout"),
            ("node_timeout_s = 1", "from 5 to 604800"),
            ("node_timeout_s = \"soon\"", "node_timeout_s"),
            ("node_silent_after_s = 0", "from 1 to 600"),
            ("lease_s = 1", "from 2 to 604800"),
            ("lease_s = 19", "twice node_silent_after_s = 10"),
            ("reserve_cpus = 65536", "from 0 to 65535"),
            ("reserve_memory_mib = \"2G\"", "reserve_memory_mib"),
            ("cluster_name = \"a b\"", "\"a b\" is no name"),
            ("users = { a = \"x\", b = \"x\" }", "both be x"),
            ("array_index_max = 4000001", "from 0 to 4000000"),
            ("[", "TOML"),
            (
                "[qos.normal]\nmax-jobs-per-user = \"many\"",
                "[qos.normal] max-jobs-per-user = many: \"many\" is not a whole number",
            ),
            (
                "[qos.normal]\nmax_jobs = 1",
                "[qos.normal] max_jobs = 1: no such key",
            ),
            ("[account.\"a b\"]", "[account.a b] `a b` is no name"),
            ("[user.ann]\nshares = [1]", "shares"),
            ("[qos]\nnormal = 3", "normal"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
