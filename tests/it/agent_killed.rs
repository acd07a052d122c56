//! Promise 3: jobs do not notice that the node's agent is killed and started again.

use crate::support::{Cluster, PATIENCE, Random, rows};
use std::time::Duration;

const JOBS: u64 = 50;
const KILLS: u32 = 20;

#[test]
fn jobs_run_on_while_the_agent_is_killed() {
    let mut random = Random::seeded("agent_killed");
    let cluster = Cluster::up(u32::try_from(JOBS).unwrap());
    let submit = |job: u64, seconds: String| {
        let code = (job % 9).to_string();
        let task = format!("sleep {seconds}; echo $SLURM_JOB_ID >> lines; exit {code}");
        cluster.submit(&["-o", "/dev/null", "-J", &code, "--wrap", &task]);
    };
    for job in 0..JOBS {
        submit(job, format!("{}.{}", random.from(2, 4), random.from(0, 9)));
    }
    for kill in 0..KILLS {
        random.sleep(20, 200);
        cluster.kill_agent();
        if kill % 4 == 0 {
            // While nobody is there to start it.
            submit(JOBS + u64::from(kill), "0.2".to_owned());
        }
        cluster.start();
    }
    cluster.wait_empty(Duration::from_secs(30) + PATIENCE);
    let history = cluster.history();
    for row in &history {
        assert_eq!(
            row["exit_code"]
                .as_u64()
                .map(|code| code.to_string())
                .as_deref(),
            row["name"].as_str(),
            "{row}"
        );
        assert_eq!(row["restarts"], 0, "{row}");
    }
    let mut ids: Vec<u64> = history
        .iter()
        .map(|row| row["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=JOBS + 5).collect::<Vec<_>>());
    let mut ran: Vec<u64> = cluster
        .read("lines")
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    ran.sort_unstable();
    assert_eq!(ran, ids, "each job ran once");
    let node = &rows(&cluster.json(&["nodes"]))[0];
    assert_eq!(
        (node["state"].as_str(), node["responding"].as_bool()),
        (Some("IDLE"), Some(true)),
        "{node}"
    );
}
