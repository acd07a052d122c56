//! What the launchers of MPIs (`mpirun`, `mpiexec`) are told inside a job: which hosts it has, and that their daemons are
//! started there by a program of ours in place of ssh. Those of Open MPI 4 and 5, of MPICH and of Intel are told.
//!
//! Each allocation has a directory with that program and a list of hosts in two spellings; who makes it is the shepherd
//! of a slot, or `hpc alloc`. What the program does is in `cli/remote_shell.rs`.

/// Name of the program that launchers take for ssh, in the directory.
pub const REMOTE_SHELL: &str = "hpc-remote-shell";
/// Name of the hosts as Open MPI reads them, `HOST slots=N`.
pub const HOSTS_WITH_SLOTS: &str = "hpc-hosts-slots";
/// Name of the hosts as Hydra reads them, `HOST:N`.
pub const HOSTS: &str = "hpc-hosts";

/// Both lists of hosts, with their names; hosts without tasks are not in them.
#[must_use]
pub fn host_lists(nodes: &[String], tasks: &[u32]) -> [(&'static str, String); 2] {
    let mut lists = [(HOSTS_WITH_SLOTS, String::new()), (HOSTS, String::new())];
    for (node, tasks) in nodes.iter().zip(tasks).filter(|(_, tasks)| **tasks > 0) {
        lists[0].1.push_str(&format!("{node} slots={tasks}\n"));
        lists[1].1.push_str(&format!("{node}:{tasks}\n"));
    }
    lists
}

/// What a variable is set to.
enum Value {
    /// This word.
    Word(&'static str),
    /// The file of this name in the directory.
    File(&'static str),
    /// The remote shell, as long as this variable has this value: who chose another way to start daemons wants the
    /// program that belongs to it.
    Shell(&'static str, &'static str),
    /// This word, as long as that variable says the remote shell.
    WithShell(&'static str, &'static str),
}

/// Their variables. The parts of Open MPI and of Hydra that believe in Slurm would call its `srun`: variables of Slurm's
/// are there, Slurm is not. The directory has another path on each machine. So daemons do not start further ones; and
/// those of Open MPI 4, which look for the remote shell all the same and end without a word where it is not, take
/// settings from their own environment, which is the launcher's with the paths of their machine, and not from its command.
const VARIABLES: [(&str, Value); 19] = [
    ("OMPI_MCA_plm", Value::Word("^slurm")),
    ("OMPI_MCA_ras", Value::Word("^slurm")),
    ("OMPI_MCA_plm_rsh_no_tree_spawn", Value::Word("1")),
    (
        "OMPI_MCA_plm_rsh_pass_environ_mca_params",
        Value::WithShell("OMPI_MCA_plm_rsh_agent", "0"),
    ),
    ("OMPI_MCA_plm_rsh_agent", Value::File(REMOTE_SHELL)),
    (
        "OMPI_MCA_orte_default_hostfile",
        Value::File(HOSTS_WITH_SLOTS),
    ),
    ("PRTE_MCA_plm", Value::Word("^slurm")),
    ("PRTE_MCA_ras", Value::Word("^slurm")),
    ("PRTE_MCA_plm_ssh_no_tree_spawn", Value::Word("1")),
    ("PRTE_MCA_plm_ssh_agent", Value::File(REMOTE_SHELL)),
    (
        "PRTE_MCA_prte_default_hostfile",
        Value::File(HOSTS_WITH_SLOTS),
    ),
    ("HYDRA_RMK", Value::Word("user")),
    ("HYDRA_LAUNCHER", Value::Word("ssh")),
    ("HYDRA_LAUNCHER_EXEC", Value::Shell("HYDRA_LAUNCHER", "ssh")),
    ("HYDRA_HOST_FILE", Value::File(HOSTS)),
    ("I_MPI_HYDRA_RMK", Value::Word("user")),
    ("I_MPI_HYDRA_BOOTSTRAP", Value::Word("ssh")),
    (
        "I_MPI_HYDRA_BOOTSTRAP_EXEC",
        Value::Shell("I_MPI_HYDRA_BOOTSTRAP", "ssh"),
    ),
    ("I_MPI_HYDRA_HOST_FILE", Value::File(HOSTS)),
];

/// The variables to set for an allocation with this directory, where these are set already. What the user has set
/// stays; what was set for another allocation, or on another machine, is said anew.
pub fn variables(
    directory: &str,
    known: impl Fn(&str) -> Option<Vec<u8>>,
) -> Vec<(&'static str, String)> {
    let path = |name: &str| format!("{directory}/{name}");
    let wanted = VARIABLES.iter().filter_map(|(name, value)| match value {
        Value::Word(word) => Some((*name, (*word).to_owned(), None)),
        Value::File(file) => Some((*name, path(file), Some(*file))),
        Value::Shell(way, expected) => known(way)
            .is_none_or(|way| way == expected.as_bytes())
            .then(|| (*name, path(REMOTE_SHELL), Some(REMOTE_SHELL))),
        Value::WithShell(agent, word) => known(agent)
            .is_none_or(|agent| is_named(&agent, REMOTE_SHELL))
            .then(|| (*name, (*word).to_owned(), None)),
    });
    let open = wanted.filter(|(name, _, file)| match (known(name), file) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(value), Some(file)) => is_named(&value, file),
    });
    open.map(|(name, value, _)| (name, value)).collect()
}

/// Whether a path ends in this name.
fn is_named(path: &[u8], name: &str) -> bool {
    let directory = path.strip_suffix(name.as_bytes());
    directory.is_some_and(|directory| directory.ends_with(b"/"))
}

/// Whether this variable tells a rank who it is and how it finds its peers.
#[must_use]
pub fn tells_a_rank(name: &[u8]) -> bool {
    const BEGINNINGS: [&str; 5] = [
        "PMI_",
        "PMIX_",
        "MPI_LOCALRANKID",
        "MPI_LOCALNRANKS",
        "OMPI_COMM_WORLD_",
    ];
    // Settings of the library, which users make, begin so too.
    !name.starts_with(b"PMIX_MCA_")
        && BEGINNINGS
            .iter()
            .any(|start| name.starts_with(start.as_bytes()))
}

/// Whether a launcher that is itself a rank would hand this variable on, and what it starts would take itself for that
/// rank.
#[must_use]
pub fn is_of_a_rank(name: &[u8]) -> bool {
    const NAMES: [&str; 5] = [
        "MPIR_CVAR_PMI_VERSION",
        "OMPI_MCA_schizo",
        "OMPI_MCA_orte_externally_bound",
        "OMPI_MCA_hwloc_base_binding_policy",
        "OMPI_MCA_mpi_yield_when_idle",
    ];
    tells_a_rank(name) || NAMES.iter().any(|known| name == known.as_bytes())
}

/// The node that a launcher means by a host: its name, its name without or with a domain, or an address of its.
pub fn node_named<'a>(
    host: &str,
    nodes: &'a [String],
    has_address: impl Fn(&str) -> bool,
) -> Option<&'a String> {
    let short = |name: &str| {
        name.split('.')
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let exact = nodes.iter().find(|node| node.eq_ignore_ascii_case(host));
    exact.or_else(|| {
        let mut similar = nodes.iter().filter(|node| match is_address {
            true => has_address(node),
            // Two names with different domains are two machines.
            false => short(node) == short(host) && (node.contains('.') != host.contains('.')),
        });
        let found = similar.next();
        // Where several may be meant, none is.
        found.filter(|_| similar.next().is_none())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn hosts_are_listed_as_each_launcher_reads_them() {
        let lists = host_lists(&names(&["ws1", "ws2", "ws3"]), &[2, 0, 1]);
        let [(_, slots), (_, plain)] = &lists;
        assert_eq!(slots, "ws1 slots=2\nws3 slots=1\n");
        assert_eq!(plain, "ws1:2\nws3:1\n");
    }

    #[test]
    fn what_the_user_has_set_stays_and_what_we_had_set_is_said_anew() {
        let set = |known: &[(&str, &str)]| {
            variables("/slot/2", |name| {
                let found = known.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| value.as_bytes().to_vec())
            })
        };
        let all = set(&[]);
        assert_eq!(all.len(), VARIABLES.len());
        assert!(all.contains(&("HYDRA_HOST_FILE", "/slot/2/hpc-hosts".to_owned())));
        let agent = "OMPI_MCA_plm_rsh_agent";
        let value = |all: &[(&str, String)], name: &str| {
            let found = all.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.clone())
        };
        let own = set(&[(agent, "/usr/bin/ssh"), ("OMPI_MCA_plm", "rsh")]);
        assert_eq!(value(&own, agent), None);
        assert_eq!(
            value(&own, "OMPI_MCA_plm_rsh_pass_environ_mca_params"),
            None
        );
        assert_eq!(value(&own, "OMPI_MCA_plm"), None);
        assert!(value(&own, "OMPI_MCA_ras").is_some());
        let of_another_job = set(&[(agent, "/slot/1/hpc-remote-shell")]);
        let ours = value(&of_another_job, agent);
        assert_eq!(ours.as_deref(), Some("/slot/2/hpc-remote-shell"));
        // A way of the user's with our program would be neither.
        let fork = set(&[("HYDRA_LAUNCHER", "fork")]);
        assert_eq!(value(&fork, "HYDRA_LAUNCHER_EXEC"), None);
        let again = set(&[("HYDRA_LAUNCHER", "ssh")]);
        assert!(value(&again, "HYDRA_LAUNCHER_EXEC").is_some());
    }

    #[test]
    fn variables_of_a_rank_are_known_from_settings() {
        for name in [
            "PMI_FD",
            "PMIX_RANK",
            "MPIR_CVAR_PMI_VERSION",
            "OMPI_MCA_schizo",
        ] {
            assert!(is_of_a_rank(name.as_bytes()), "{name}");
        }
        for name in ["PMIX_MCA_gds", "OMPI_MCA_btl", "PATH", "HYDRA_HOST_FILE"] {
            assert!(!is_of_a_rank(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn hosts_are_found_by_every_name_they_have() {
        let nodes = names(&["ws1", "ws2.lab", "ws3.a", "ws3.b"]);
        let found =
            |host: &str| node_named(host, &nodes, |node| node == "ws1" && host == "10.0.0.1");
        assert_eq!(found("ws1"), Some(&nodes[0]));
        assert_eq!(found("WS1"), Some(&nodes[0]));
        assert_eq!(found("ws1.lab.example"), Some(&nodes[0]));
        assert_eq!(found("ws2"), Some(&nodes[1]));
        assert_eq!(found("ws2.other"), None);
        assert_eq!(found("ws3"), None, "two may be meant");
        assert_eq!(found("ws3.b"), Some(&nodes[3]));
        assert_eq!(found("10.0.0.1"), Some(&nodes[0]));
        assert_eq!(found("10.0.0.2"), None);
        assert_eq!(found("ws4"), None);
    }
}
