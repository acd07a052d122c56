//! Where the MPI that a program uses may have brought a PMIx library of its own.
//!
//! Ranks and their server should have the same: the two say most to each other across versions, but not what groups of
//! ranks are made by. An MPI beside the distribution's is found as its programs are: by the folders of libraries that the
//! job names, by what the program's file says (`pmix/program.rs`), by where the program is, or by the folders that are
//! searched before the system's. Whether anything is there only the server can see, who looks in this order and then in
//! the usual places.

use super::launch_plan::LaunchPlan;
use std::ffi::CString;

const NAME: &str = "libpmix.so.2";
/// Folders whose libraries are found without us.
const OF_THE_SYSTEM: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
];
/// Of so many words of the command each may name a program.
const WORDS_MAX: usize = 16;
/// Of more places than these it is not worth looking.
const PLACES_MAX: usize = 64;

/// Files that may be there, and those that may be the program; the likeliest first.
pub(super) fn likely(plan: &LaunchPlan) -> Vec<String> {
    let value = |name: &str| {
        let lines = plan.environment.iter().filter_map(text);
        let mut values = lines.filter_map(|line| line.strip_prefix(name));
        values.next().unwrap_or_default()
    };
    let mut places = Vec::new();
    for folder in value("LD_LIBRARY_PATH=").split(':') {
        library_folder(folder, &mut places);
    }
    let directory = text(&plan.directory).unwrap_or_default();
    // What comes first may be one that starts another: a shell, `env`, a script that binds.
    for word in plan.arguments.iter().take(WORDS_MAX).filter_map(text) {
        let Some((folder, name)) = word.rsplit_once('/') else {
            continue;
        };
        let folder = if word.starts_with('/') {
            folder.to_owned()
        } else {
            format!("{directory}/{folder}")
        };
        places.push(format!("{folder}/{name}"));
        program_folder(&folder, &mut places);
    }
    let folders = value("PATH=").split(':');
    for folder in folders.take_while(|folder| !OF_THE_SYSTEM.contains(folder)) {
        program_folder(folder, &mut places);
    }
    let mut seen = std::collections::BTreeSet::new();
    places.retain(|place| seen.insert(place.clone()));
    places.truncate(PLACES_MAX);
    places
}

fn text(line: &CString) -> Option<&str> {
    line.to_str().ok()
}

/// The libraries of what has its programs here.
fn program_folder(folder: &str, places: &mut Vec<String>) {
    if OF_THE_SYSTEM.contains(&folder) {
        return;
    }
    if let Some(prefix) = folder.strip_suffix("/bin") {
        library_folder(&format!("{prefix}/lib"), places);
        library_folder(&format!("{prefix}/lib64"), places);
    }
}

/// Open MPI may keep apart what it brings for itself alone.
fn library_folder(folder: &str, places: &mut Vec<String>) {
    if folder.starts_with('/') {
        places.push(format!("{folder}/{NAME}"));
        places.push(format!("{folder}/openmpi/{NAME}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::StepId;
    use crate::steps::launch_plan::{InputFrom, Output};
    use crate::steps::vocabulary::TaskId;
    use std::sync::Arc;

    fn likely_of(program: &str, environment: &[&str]) -> Vec<String> {
        let line = |text: &str| CString::new(text).unwrap();
        let plan = LaunchPlan {
            task: TaskId {
                step: StepId(0),
                rank: 0,
            },
            arguments: Arc::new(vec![line(program)]),
            environment: Arc::new(environment.iter().map(|text| line(text)).collect()),
            directory: Arc::new(line("/home/ada")),
            stdin: InputFrom::Null,
            stdout: Output::Log,
            stderr: Output::SameAsStdout,
            umask: 0,
            limits: Arc::default(),
            cpus: Arc::default(),
            pmi: false,
        };
        likely(&plan)
    }

    #[test]
    fn an_mpi_is_looked_for_where_its_programs_and_libraries_are() {
        let path = "PATH=/opt/mpi/bin:/usr/bin:/later/bin";
        let mpi = [
            "/opt/mpi/lib/libpmix.so.2",
            "/opt/mpi/lib/openmpi/libpmix.so.2",
            "/opt/mpi/lib64/libpmix.so.2",
            "/opt/mpi/lib64/openmpi/libpmix.so.2",
        ];
        assert_eq!(likely_of("python3", &[path]), mpi);
        let program = likely_of("/opt/mpi/bin/python3", &[path]);
        assert_eq!(
            (program[0].as_str(), &program[1..]),
            ("/opt/mpi/bin/python3", &mpi.map(str::to_owned)[..])
        );
        let here = [
            "/home/ada/.venv/bin/python",
            "/home/ada/.venv/lib/libpmix.so.2",
        ];
        assert_eq!(likely_of(".venv/bin/python", &[path])[..2], here);
        let said = likely_of("/opt/mpi/bin/a", &[path, "LD_LIBRARY_PATH=/said/lib"]);
        assert_eq!(said[0], "/said/lib/libpmix.so.2");
    }

    #[test]
    fn what_is_of_the_system_or_nowhere_is_not_looked_for() {
        let environment = ["PATH=:bin:/usr/bin", "LD_LIBRARY_PATH=:lib"];
        assert!(likely_of("python3", &environment).is_empty());
        assert_eq!(
            likely_of("/usr/bin/python3", &environment),
            ["/usr/bin/python3"]
        );
        assert_eq!(likely_of("./a.out", &environment), ["/home/ada/./a.out"]);
        assert!(likely_of("", &[]).is_empty());
        let long = format!("PATH={}", vec!["/a/bin"; 9_000].join(":"));
        assert_eq!(likely_of("a", &[&long]).len(), 4);
    }
}
