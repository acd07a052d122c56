//! The description of a cluster: nodes, rules, policy and failures, as TOML.
//!
//! ```toml
//! failures = { mtbf = "30d", repair = "1h" }
//!
//! [[node]]
//! name = "n[1-40]"
//! cpus = 64
//! numa = 2
//! memory = "256G"
//! gpus = "a100:4"
//!
//! [policy]
//! rule = "easy"
//!
//! [qos.normal]
//! max-jobs-per-user = 4
//!
//! [[failure]]
//! node = "n3"
//! at = "2h"
//! for = "30m"
//! ```
//! `[policy]` with `forget-failures = true` starts jobs on nodes as if none had failed before.
//! Partitions, accounts, users, QOS and licences have the keys of [`Rules::change`]; `[[reservation]]` has `name`, `at`, `for`
//! and those of a reservation.

use super::fields::{self, Fields, Wrong, excerpt, show};
use super::outages::{Chance, Outage, Outages};
use crate::cluster::Settings;
use crate::model::gres::parse_gpus;
use crate::model::hostlist;
use crate::model::node::{Inventory, is_node_name};
use crate::model::resource::GpuCount;
use crate::model::rules::{Act, Noun, RuleChange, Rules, Setting};
use crate::model::topology::{Gpu, LogicalCpu, NumaNode, Topology};
use crate::scheduler::Rule;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Most nodes.
pub const NODES_MAX: usize = 10_000;
/// Most cpus of a node.
const CPUS_MAX: u32 = 65_535;
/// Most NUMA nodes and GPUs of a node.
const PARTS_MAX: u32 = 1_024;

/// A cluster as it is described.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// Its nodes.
    pub nodes: Vec<Inventory>,
    /// Its rules.
    pub rules: Rules,
    /// Its settings, the policy among them.
    pub settings: Settings,
    /// What goes wrong.
    pub outages: Outages,
    /// What is reserved.
    pub reservations: Vec<Reserved>,
}

/// A reservation that is made before anything is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// Its name.
    pub name: String,
    /// From the beginning to its start; milliseconds.
    pub at_ms: i64,
    /// How long it lasts; milliseconds.
    pub for_ms: i64,
    /// Settings beside its times.
    pub settings: Vec<Setting>,
}

/// Reads a description.
///
/// # Errors
/// One line that names the table, the key and its value.
pub fn parse(text: &str) -> Result<Description, Wrong> {
    let table = fields::parse(text)?;
    let mut top = Fields::new("the file", &table);
    let mut described = Description::default();
    for node in top.tables("node")? {
        add_nodes(&mut described, node)?;
    }
    if described.nodes.is_empty() {
        return Err(top.fault("it has no [[node]]"));
    }
    described.rules = change_rules(described.rules, &mut top)?;
    for reservation in top.tables("reservation")? {
        described.reservations.push(reserved(reservation)?);
    }
    if let Some(policy) = top.table("policy")? {
        read_policy(&mut described.settings, policy)?;
    }
    if let Some(mut chance) = top.table("failures")? {
        let (mtbf_ms, repair_ms) = (chance.span("mtbf")?, chance.span("repair")?);
        let mtbf_ms = mtbf_ms
            .filter(|ms| *ms > 0)
            .ok_or_else(|| chance.fault("`mtbf` is missing, such as mtbf = \"30d\""))?;
        described.outages.chance = Some(Chance {
            mtbf_ms,
            repair_ms: repair_ms.unwrap_or(3_600_000),
        });
        chance.finish()?;
    }
    let names: BTreeMap<&str, usize> = described
        .nodes
        .iter()
        .zip(0..)
        .map(|(node, at)| (node.name.as_str(), at))
        .collect();
    for failure in top.tables("failure")? {
        let more = read_failure(&names, failure)?;
        described.outages.planned.extend(more);
    }
    top.finish()?;
    Ok(described)
}

/// Reads rules alone, to be laid over others: `[partition.X]`, `[qos.X]`, `[account.X]`, `[user.X]`, and `[policy]`.
///
/// # Errors
/// One line that names the table, the key and its value.
pub fn parse_rules(text: &str, rules: Rules, settings: &mut Settings) -> Result<Rules, Wrong> {
    let table = fields::parse(text)?;
    let mut top = Fields::new("the file", &table);
    let rules = change_rules(rules, &mut top)?;
    if let Some(policy) = top.table("policy")? {
        read_policy(settings, policy)?;
    }
    top.finish()?;
    Ok(rules)
}

/// What a node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Cpus, each a core of its own.
    pub cpus: u32,
    /// NUMA nodes, over which cpus, memory and GPUs are spread evenly.
    pub numa: u32,
    /// Memory; MiB.
    pub memory_mib: u64,
    /// GPUs, by kind; `gpu` where none is said.
    pub gpus: Vec<GpuCount>,
}

impl Machine {
    /// As a node with this name introduces itself.
    #[must_use]
    pub fn inventory(&self, name: &str) -> Inventory {
        let numa = self.numa.clamp(1, self.cpus.max(1));
        // Where the part `at` of `all` lies.
        let place = |at: u32, all: u32| {
            let place = u64::from(at) * u64::from(numa) / u64::from(all.max(1));
            u32::try_from(place).unwrap_or(0)
        };
        let cpu = |id| LogicalCpu {
            id,
            core: id,
            package: place(id, self.cpus),
            numa: place(id, self.cpus),
            real: true,
        };
        let cpus: Vec<LogicalCpu> = (0..self.cpus).map(cpu).collect();
        let numa_node = |id| NumaNode {
            id,
            cpus: cpus
                .iter()
                .filter(|cpu| cpu.numa == id)
                .map(|cpu| cpu.id)
                .collect(),
            memory_mib: self.memory_mib / u64::from(numa),
            distances: (0..numa).map(|to| if to == id { 10 } else { 21 }).collect(),
        };
        let kinds = self.gpus.iter().flat_map(|wanted| {
            let kind = wanted.kind.as_deref().unwrap_or("gpu");
            (0..wanted.count).map(move |_| kind)
        });
        let kinds: Vec<&str> = kinds.collect();
        let all = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
        let gpu = |(kind, index): (&&str, u32)| Gpu {
            index,
            kind: (*kind).to_owned(),
            uuid: String::new(),
            memory_mib: 0,
            numa: Some(place(index, all)),
            minor: None,
            real: true,
        };
        Inventory {
            name: name.to_owned(),
            topology: Topology {
                numa_nodes: (0..numa).map(numa_node).collect(),
                memory_mib: self.memory_mib,
                gpus: kinds.iter().zip(0..).map(gpu).collect(),
                cpus,
            },
            boot_id: String::new(),
            version: "sim".to_owned(),
            uid: 0,
            remarks: Vec::new(),
        }
    }
}

/// `[[reservation]]`: `name`, `at`, `for` and the keys of `hpc reserve add` beside its times.
fn reserved(mut fields: Fields<'_>) -> Result<Reserved, Wrong> {
    let name = fields.name("name")?.to_owned();
    Rules::check_name(Noun::Reservation, &name)
        .map_err(|refusal| fields.wrong("name", refusal.what))?;
    let missing = |key: &str| format!("`{key}` is missing, such as {key} = \"2h\"");
    let at_ms = fields.span("at")?;
    let at_ms = at_ms.ok_or_else(|| fields.fault(missing("at")))?;
    let for_ms = fields.span("for")?;
    let for_ms = for_ms.ok_or_else(|| fields.fault(missing("for")))?;
    let table: Table = fields
        .rest()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let settings = change(Noun::Reservation, &name, &table)?.settings;
    Ok(Reserved {
        name,
        at_ms,
        for_ms,
        settings,
    })
}

fn add_nodes(described: &mut Description, mut fields: Fields<'_>) -> Result<(), Wrong> {
    let said = [
        ("features", fields.text("features")?),
        ("switch", fields.text("switch")?),
    ];
    let nodes = &mut described.nodes;
    let list = fields.name("name")?;
    let names = hostlist::parse(list).map_err(|error| fields.wrong("name", error))?;
    let missing = |what: &str| fields_missing(what);
    let cpus = fields.count("cpus", 1, CPUS_MAX)?;
    let memory_mib = fields.memory("memory")?;
    let machine = Machine {
        cpus: cpus.ok_or_else(|| fields.fault(missing("cpus = 64")))?,
        numa: fields.count("numa", 1, PARTS_MAX)?.unwrap_or(1),
        memory_mib: memory_mib.ok_or_else(|| fields.fault(missing("memory = \"256G\"")))?,
        gpus: gpus(&mut fields, "gpus")?,
    };
    if nodes.len() + names.len() > NODES_MAX {
        return Err(fields.wrong("name", format!("there are more than {NODES_MAX} nodes")));
    }
    let counts = machine.gpus.iter().map(|gpus| u64::from(gpus.count));
    if counts.sum::<u64>() > u64::from(PARTS_MAX) {
        return Err(fields.wrong("gpus", format!("a node has at most {PARTS_MAX}")));
    }
    for name in names {
        if !is_node_name(&name) {
            let shown = excerpt(&name);
            return Err(fields.wrong("name", format!("`{shown}` is no name for a node")));
        }
        for (key, value) in said
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
        {
            let setting = vec![(key.to_owned(), value.to_owned())];
            let said = (Noun::Node, name.clone(), setting);
            let rules = described.rules.with_settings(&[said]);
            described.rules = rules.map_err(|refusal| fields.wrong(key, refusal.what))?;
        }
        nodes.push(machine.inventory(&name));
    }
    let mut known: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    known.sort_unstable();
    if let Some(twice) = known.windows(2).find(|two| two[0] == two[1]) {
        return Err(fields.wrong("name", format!("there are two nodes `{}`", twice[0])));
    }
    fields.finish()
}

fn fields_missing(example: &str) -> String {
    let key = example.split(' ').next().unwrap_or_default();
    format!("`{key}` is missing, such as {example}")
}

/// `4`, `"4"` or `"a100:4,t4:2"`.
pub(super) fn gpus(fields: &mut Fields<'_>, key: &'static str) -> Result<Vec<GpuCount>, Wrong> {
    let text = match fields.get(key) {
        None => return Ok(Vec::new()),
        Some(Value::Integer(count)) => count.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(_) => return Err(fields.wrong(key, "write a number, or \"a100:4\"")),
    };
    let list = parse_gpus(&text).map_err(|error| fields.wrong(key, error))?;
    Ok(list.iter().map(GpuCount::from).collect())
}

/// The tables of rules, in the order in which they can name each other: all are made before anything is set.
fn change_rules(mut rules: Rules, top: &mut Fields<'_>) -> Result<Rules, Wrong> {
    let nouns = [
        (Noun::License, "license"),
        (Noun::Qos, "qos"),
        (Noun::Account, "account"),
        (Noun::User, "user"),
        (Noun::Partition, "partition"),
    ];
    let mut changes: Vec<RuleChange> = Vec::new();
    for (noun, key) in nouns {
        let Some(named) = top.table(key)? else {
            continue;
        };
        for (name, value) in named.rest() {
            let Value::Table(settings) = value else {
                let why = format!("write it as a table, [{key}.{name}]");
                return Err(named.wrong(name, why));
            };
            changes.push(change(noun, name, settings)?);
        }
    }
    let place = |change: &RuleChange| format!("[{}.{}]", change.noun, change.name);
    let wrong = |change: &RuleChange, refusal: &crate::model::refusal::Refusal| {
        Wrong(format!("{}: {}", place(change), refusal.what))
    };
    for change in &changes {
        let (noun, name) = (change.noun, change.name.as_str());
        if !noun.knows_all() && !rules.names(noun).contains(&name) {
            let made = RuleChange {
                act: Act::Add,
                settings: Vec::new(),
                ..change.clone()
            };
            rules = rules
                .change(&made)
                .map_err(|refusal| wrong(change, &refusal))?;
        }
    }
    for change in &changes {
        rules = rules
            .change(change)
            .map_err(|refusal| wrong(change, &refusal))?;
    }
    Ok(rules)
}

fn change(noun: Noun, name: &str, settings: &Table) -> Result<RuleChange, Wrong> {
    let text = |key: &str, value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(value) => Ok(if *value { "yes" } else { "no" }.to_owned()),
        Value::Array(list) if list.iter().all(Value::is_str) => {
            let names = list.iter().filter_map(Value::as_str);
            Ok(names.collect::<Vec<_>>().join(","))
        }
        other => Err(Wrong(format!(
            "[{noun}.{name}]: {key} = {}: write a text, a number, true, false or a list of texts",
            show(other)
        ))),
    };
    let settings = settings.iter();
    let settings: Result<Vec<Setting>, Wrong> = settings
        .map(|(key, value)| Ok((key.clone(), text(key, value)?)))
        .collect();
    Ok(RuleChange {
        noun,
        act: Act::Set,
        name: name.to_owned(),
        settings: settings?,
    })
}

/// The rules by which jobs start, and their words.
pub const RULES: [(&str, Rule); 4] = [
    ("fcfs", Rule::Fcfs),
    ("easy", Rule::Easy),
    ("easy-sjbf", Rule::EasySjbf),
    ("conservative", Rule::Conservative),
];

fn read_policy(settings: &mut Settings, mut fields: Fields<'_>) -> Result<(), Wrong> {
    if let Some(word) = fields.text("rule")? {
        let known = RULES.iter().find(|(known, _)| *known == word);
        let words = RULES.map(|(word, _)| word).join(", ");
        let found = known.ok_or_else(|| fields.wrong("rule", format!("write one of: {words}")));
        settings.policy.rule = found?.1;
    }
    let weights = &mut settings.policy.weights;
    let all: [(&'static str, &mut u32); 7] = [
        ("age", &mut weights.age),
        ("fair-share", &mut weights.fair_share),
        ("size", &mut weights.size),
        ("partition", &mut weights.partition),
        ("qos", &mut weights.qos),
        ("cpus", &mut weights.tres_cpu),
        ("gpus", &mut weights.tres_gpu),
    ];
    for (key, weight) in all {
        *weight = fields.count(key, 0, u32::MAX)?.unwrap_or(*weight);
    }
    let seconds = |span: Option<i64>| span.and_then(|ms| u32::try_from(ms / 1000).ok());
    let max_age = seconds(fields.span("max-age")?);
    weights.max_age_s = max_age.unwrap_or(weights.max_age_s);
    let half_life = seconds(fields.span("half-life")?);
    settings.half_life_s = half_life.unwrap_or(settings.half_life_s);
    if fields.truth("forget-failures")? {
        settings.remember_failures = false;
    }
    fields.finish()
}

fn read_failure(
    names: &BTreeMap<&str, usize>,
    mut fields: Fields<'_>,
) -> Result<Vec<Outage>, Wrong> {
    let list = fields.name("node")?;
    let failed = hostlist::parse(list).map_err(|error| fields.wrong("node", error))?;
    let (at_ms, for_ms) = (fields.span("at")?, fields.span("for")?);
    let at_ms = at_ms.ok_or_else(|| fields.fault(fields_missing("at = \"2h\"")))?;
    let for_ms = for_ms.ok_or_else(|| fields.fault(fields_missing("for = \"30m\"")))?;
    let outages = failed.iter().map(|name| {
        let node = names.get(name.as_str()).copied();
        let node = node.ok_or_else(|| fields.wrong("node", format!("there is no node `{name}`")));
        Ok(Outage {
            node: node?,
            at_ms,
            for_ms,
        })
    });
    let outages = outages.collect::<Result<Vec<Outage>, Wrong>>()?;
    fields.finish()?;
    Ok(outages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[[node]]\nname = \"n[1-2]\"\ncpus = 4\nmemory = \"8G\"\n";

    #[test]
    fn a_cluster_is_read_with_all_it_says() {
        let text = "failures = { mtbf = \"30d\", repair = \"2h\" }\n\
            [[node]]\nname = \"n[1-3]\"\ncpus = 6\nnuma = 2\nmemory = \"64G\"\ngpus = \"a100:2\"\n\
            [[node]]\nname = \"big\"\ncpus = 128\nmemory = \"1T\"\ngpus = 1\n\
            [policy]\nrule = \"easy-sjbf\"\nage = 7\nhalf-life = \"1d\"\n\
            [qos.course]\nmax-jobs-per-user = 1\nusage-factor = 0.5\n\
            [account.physics]\nshares = 2\n[account.optics]\nparent = \"physics\"\n\
            [user.ann]\naccount = \"optics\"\ndefault-qos = \"course\"\n\
            [partition.gpu]\nnodes = \"n[1-3]\"\nqos = [\"course\", \"normal\"]\ndefault = true\n\
            [[failure]]\nnode = \"n[2-3]\"\nat = \"2h\"\nfor = \"30m\"\n";
        let read = parse(text).unwrap();
        let names: Vec<&str> = read.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["n1", "n2", "n3", "big"]);
        let topology = &read.nodes[0].topology;
        assert_eq!(topology.numa_nodes[1].cpus, [3, 4, 5]);
        assert_eq!(topology.numa_nodes[1].memory_mib, 32 * 1024);
        let gpus: Vec<_> = topology
            .gpus
            .iter()
            .map(|gpu| (gpu.kind.as_str(), gpu.numa))
            .collect();
        assert_eq!(gpus, [("a100", Some(0)), ("a100", Some(1))]);
        assert_eq!(read.nodes[3].topology.gpus[0].kind, "gpu");
        assert_eq!(read.settings.policy.rule, Rule::EasySjbf);
        assert_eq!(read.settings.policy.weights.age, 7);
        assert_eq!(read.settings.half_life_s, 86_400);
        assert_eq!(read.rules.qos["course"].usage_factor_milli, 500);
        assert_eq!(read.rules.default_partition().unwrap().name, "gpu");
        assert_eq!(
            read.rules.accounts["optics"].parent.as_deref(),
            Some("physics")
        );
        let outage = Outage {
            node: 2,
            at_ms: 7_200_000,
            for_ms: 1_800_000,
        };
        assert_eq!(read.outages.planned[1], outage);
        assert_eq!(read.outages.chance.unwrap().repair_ms, 7_200_000);
    }

    #[test]
    fn mistakes_are_one_line_with_table_key_and_value() {
        let cases = [
            ("[[node]\n", "line 1: "),
            ("[policy]\n", "the file: it has no [[node]]"),
            ("[[node]]\ncpus = 1\n", "[[node]] 1: `name` is missing"),
            (
                "[[node]]\nname = \"n[1-20000]\"\ncpus = 1\nmemory = \"1G\"\n",
                "[[node]] 1: name = \"n[1-20000]\": there are more than 10000",
            ),
            (
                "[[node]]\nname = \"a\"\ncpus = \"many\"\n",
                "[[node]] 1: cpus = \"many\": write a whole number from 1 to 65535",
            ),
            (
                "[[node]]\nname = \"a,a\"\ncpus = 1\nmemory = \"1G\"\n",
                "there are two nodes `a`",
            ),
            (
                "[[node]]\nname = \"a\"\ncpus = 1\nmemory = \"1G\"\ncolour = \"red\"\n",
                "[[node]] 1: colour = \"red\": no such key; there are: features, switch, name, cpus, memory, numa, gpus",
            ),
        ];
        for (text, said) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let cases = [
            (
                "[policy]\nrule = \"best\"\n",
                "[policy]: rule = \"best\": write one of: fcfs, easy, easy-sjbf, conservative",
            ),
            (
                "[qos.normal]\nmax-jobs-per-user = -1.5\n",
                "[qos.normal]: qos normal: max-jobs-per-user=-1.5: ",
            ),
            (
                "[user.ann]\naccount = \"none\"\n",
                "[user.ann]: user `ann` names account `none`",
            ),
            (
                "[[failure]]\nnode = \"n9\"\nat = \"1h\"\nfor = \"1m\"\n",
                "[[failure]] 1: node = \"n9\": there is no node `n9`",
            ),
            (
                "[[failure]]\nnode = \"n1\"\nat = \"soon\"\nfor = \"1m\"\n",
                "[[failure]] 1: at = \"soon\": write a span such as",
            ),
            (
                "[failures]\nrepair = \"1h\"\n",
                "[failures]: `mtbf` is missing",
            ),
            (
                "node_timeout = 3\n",
                "the file: node_timeout = 3: no such key",
            ),
        ];
        for (text, said) in cases {
            // What stands alone comes first.
            let text = match text.starts_with('[') {
                true => format!("{SMALL}{text}"),
                false => format!("{text}{SMALL}"),
            };
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
