//! On a cluster of several machines, each with its own network, hostname and files: who makes room for whom, what is
//! reserved, who waits for whom, licences, and a machine that is taken out.

use crate::lab::{Host, Lab};
use crate::support::{PATIENCE, wait_until};
use std::collections::BTreeSet;

fn cluster(hosts: &[Host]) {
    let machine = ["--memory", "64G", "--cpus", "2"];
    hosts[0].ok(&[&["up", "--detach"], &machine[..]].concat());
    for host in &hosts[1..] {
        let line = hosts[0].ok(&["invite", "--parsable"]);
        host.ok(&[&["join", "--detach"], &machine[..], &[line.trim()]].concat());
        wait_until("it responds", PATIENCE, || {
            hosts[0].responding().contains(host.name())
        });
    }
}

fn sleeps(head: &Host, more: &[&str]) -> u32 {
    let words = ["-o", "/dev/null", "--kill-wait", "2"];
    head.submit(&[&words, more, &["--wrap", "sleep 1000"]].concat())
}

fn nodes_of(head: &Host, job: u32) -> BTreeSet<String> {
    let view = head.json(&["job", &job.to_string()]);
    let nodes = view["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| node.as_str().unwrap().to_owned())
        .collect()
}

fn waits_for(head: &Host, job: u32, reason: &str) {
    wait_until(&format!("{job} waits for {reason}"), PATIENCE, || {
        head.json(&["job", &job.to_string()])["reason"] == reason
    });
}

fn cancel(head: &Host, jobs: &[u32]) {
    let jobs: Vec<String> = jobs.iter().map(u32::to_string).collect();
    let mut words = vec!["cancel"];
    words.extend(jobs.iter().map(String::as_str));
    head.ok(&words);
    wait_until("nothing is left", PATIENCE, || {
        head.json(&["queue"]).as_array().unwrap().is_empty()
    });
}

#[test]
fn jobs_make_room_wait_and_keep_to_reservations_on_several_machines() {
    let test = "jobs_make_room_wait_and_keep_to_reservations_on_several_machines";
    let Some(lab) = Lab::new(test) else {
        return;
    };
    let hosts = lab.hosts(&["sa", "sb", "sc"]);
    cluster(&hosts);
    let head = &hosts[0];

    // An urgent gang takes two machines: the youngest on them go and run again afterwards.
    head.ok(&["qos", "add", "urgent", "preempts=normal"]);
    let array = sleeps(head, &["-a", "0-2", "-c", "2", "--requeue", "-t", "60"]);
    wait_until("all are full", PATIENCE, || {
        let rows = head.json(&["queue"]);
        let rows = rows.as_array().unwrap();
        rows.len() == 3 && rows.iter().all(|row| row["state"] == "RUNNING")
    });
    let gang = sleeps(head, &["-q", "urgent", "-N", "2", "-c", "2", "-t", "10"]);
    head.wait_for_state(gang, "RUNNING");
    assert_eq!(nodes_of(head, gang).len(), 2);
    let count = |state: &str| {
        let rows = head.json(&["queue"]);
        let rows = rows.as_array().unwrap();
        let of_array = rows
            .iter()
            .filter(|row| row["id"].as_u64() != Some(gang.into()));
        let in_state = of_array.filter(|row| row["state"] == state);
        in_state.count()
    };
    wait_until("two have made room", PATIENCE, || count("RUNNING") == 1);
    head.ok(&["cancel", &gang.to_string()]);
    wait_until("they run again", PATIENCE, || count("RUNNING") == 3);
    cancel(head, &[array]);

    // One machine is reserved, another is drained: others have the third alone.
    let reserved = hosts[1].name().to_owned();
    let in_words = ["reserve", &reserved, "now", "20m", "as", "course"];
    head.ok(&in_words);
    head.ok(&["node", "drain", hosts[2].name()]);
    let outside = sleeps(head, &["-c", "2", "-t", "10"]);
    let next = sleeps(head, &["-c", "2", "-t", "10"]);
    let inside = sleeps(head, &["-c", "2", "-t", "10", "--reservation", "course"]);
    head.wait_for_state(outside, "RUNNING");
    head.wait_for_state(inside, "RUNNING");
    assert_eq!(nodes_of(head, outside), [head.name().to_owned()].into());
    assert_eq!(nodes_of(head, inside), [reserved.clone()].into());
    waits_for(head, next, "Resources");
    head.ok(&["node", "resume", hosts[2].name()]);
    head.wait_for_state(next, "RUNNING");
    assert_eq!(nodes_of(head, next), [hosts[2].name().to_owned()].into());
    cancel(head, &[outside, next, inside]);
    head.ok(&["reserve", "remove", "course"]);

    // Licences are the cluster's, wherever the jobs are; one job waits for another's end.
    head.ok(&["license", "add", "matlab", "count=2"]);
    let holders = ["sa", "sb"].map(|name| sleeps(head, &["-L", "matlab", "-w", name, "-t", "10"]));
    holders
        .iter()
        .for_each(|job| head.wait_for_state(*job, "RUNNING"));
    let third = sleeps(head, &["-L", "matlab", "-w", "sc", "-t", "10"]);
    waits_for(head, third, "Licenses");
    let after = format!("afterany:{}", holders[0]);
    let dependent = sleeps(head, &["-d", &after, "-w", "sc", "-t", "10"]);
    waits_for(head, dependent, "Dependency");
    head.ok(&["cancel", &holders[0].to_string()]);
    head.wait_for_state(third, "RUNNING");
    head.wait_for_state(dependent, "RUNNING");
    cancel(head, &[holders[1], third, dependent]);

    // Two machines are under one switch: a gang is given those, or waits for them as long as it says.
    head.ok(&["node", "set", "sa", "switch=room/left"]);
    head.ok(&["node", "set", "sb,sc", "switch=room/right"]);
    assert_eq!(head.json(&["node", "sc"])["switch"], "room/right");
    let gang = |more: &[&str]| sleeps(head, &[&["-N", "2", "-c", "2", "-t", "10"], more].concat());
    let close = gang(&[]);
    head.wait_for_state(close, "RUNNING");
    let right: BTreeSet<String> = ["sb", "sc"].map(str::to_owned).into();
    assert_eq!(nodes_of(head, close), right);
    cancel(head, &[close]);
    let busy = sleeps(head, &["-w", "sb", "-c", "2", "-t", "10"]);
    head.wait_for_state(busy, "RUNNING");
    let patient = gang(&["--switches=1"]);
    waits_for(head, patient, "Switches");
    let why = head.ok(&["why", &patient.to_string()]);
    assert!(why.contains("under at most 1 switch until"), "{why}");
    head.ok(&["cancel", &patient.to_string()]);
    let hasty = gang(&["--switches=1@0:03"]);
    head.wait_for_state(hasty, "RUNNING");
    cancel(head, &[busy, hasty]);
}
