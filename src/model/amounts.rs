//! Variables of a job that speak of its amounts, and that stand for options of `hpc run` where a user sets them: which of
//! the two a value is. One variable of ours notes what the others were set to, so whatever differs from that was said.

/// What follows `SLURM_` and `HPC_` in their names.
pub const AMOUNTS: [&str; 4] = ["NTASKS", "CPUS_PER_TASK", "NTASKS_PER_NODE", "NNODES"];
/// The variable that notes them.
pub const NOTE: &str = "HPC_JOB_AMOUNTS";

/// The note about these variables, each given as it is set now.
pub fn note(value_of: impl Fn(&str) -> Option<String>) -> String {
    let set = AMOUNTS.iter();
    let set = set.filter_map(|name| Some(format!("{name}={}", value_of(&format!("HPC_{name}"))?)));
    set.collect::<Vec<_>>().join(",")
}

/// What we have set this amount to, where we have; variables are given as a way to look them up.
pub fn ours(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    match variable(NOTE) {
        Some(note) => {
            let mut entries = note.split(',').filter_map(|entry| entry.split_once('='));
            let found = entries.find(|(other, _)| *other == name);
            found.map(|(_, value)| value.to_owned())
        }
        // An earlier build makes no note, and sets both names alike.
        None => {
            let both = ["SLURM", "HPC"].map(|prefix| variable(&format!("{prefix}_{name}")));
            let [one, other] = both;
            one.filter(|one| Some(one) == other.as_ref())
        }
    }
}

/// What the user has set this amount to, where that is not what we have.
pub fn said(name: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let ours = ours(name, &variable);
    // As srun has it: of the cpus of its tasks a variable of its own speaks first.
    let prefixes: &[&str] = match name {
        "CPUS_PER_TASK" => &["SRUN", "HPC", "SLURM"],
        _ => &["HPC", "SLURM"],
    };
    let mut values = prefixes
        .iter()
        .filter_map(|prefix| variable(&format!("{prefix}_{name}")));
    values.find(|value| !value.is_empty() && Some(value) != ours.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            let found = set.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn what_differs_from_the_note_was_said() {
        let jobs = [
            ("HPC_NTASKS", "4"),
            ("HPC_NNODES", "2"),
            ("SLURM_NNODES", "2"),
        ];
        let noted = note(looks(&jobs));
        assert_eq!(noted, "NTASKS=4,NNODES=2");
        let check = |set: &[(&str, &str)], expected: Option<&str>| {
            let all = [set, &[(NOTE, noted.as_str())]].concat();
            assert_eq!(said("NTASKS", looks(&all)).as_deref(), expected, "{set:?}");
            assert_eq!(ours("NTASKS", looks(&all)).as_deref(), Some("4"));
        };
        check(&[("HPC_NTASKS", "4"), ("SLURM_NTASKS", "4")], None);
        check(&[("HPC_NTASKS", "4"), ("SLURM_NTASKS", "1")], Some("1"));
        check(&[("HPC_NTASKS", "2"), ("SLURM_NTASKS", "4")], Some("2"));
        check(&[("HPC_NTASKS", "")], None);
        check(&[], None);
        let cpus = [
            (NOTE, ""),
            ("SRUN_CPUS_PER_TASK", "3"),
            ("HPC_CPUS_PER_TASK", "2"),
        ];
        assert_eq!(said("CPUS_PER_TASK", looks(&cpus)).as_deref(), Some("3"));
    }

    #[test]
    fn without_a_note_two_names_that_agree_are_ours() {
        let agree = [("HPC_NTASKS", "4"), ("SLURM_NTASKS", "4")];
        assert_eq!(said("NTASKS", looks(&agree)), None);
        let alone = [("SLURM_NTASKS", "4")];
        assert_eq!(said("NTASKS", looks(&alone)).as_deref(), Some("4"));
    }
}
