//! Listings of very long arrays: complete, and at no cost to the controller's memory.

use crate::support::{Cluster, peak_kib, rows};

const ELEMENTS: usize = 300_000;

#[test]
fn hundreds_of_thousands_of_rows_are_listed_without_being_held() {
    let cluster = Cluster::up(2);
    let range = format!("1-{ELEMENTS}");
    let job = cluster
        .submit(&["--hold", "-a", &range, "--wrap", "true"])
        .to_string();
    let before = peak_kib(cluster.controller());
    let counted = |words: &[&str]| cluster.ok(words).lines().count() - 1;
    assert_eq!(counted(&["queue"]), 1);
    assert_eq!(counted(&["queue", "-r"]), ELEMENTS);
    cluster.ok(&["cancel", &job]);
    assert_eq!(counted(&["history"]), 50);
    let listing = cluster.ok(&["history", &job]);
    let ids: Vec<&str> = listing
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(ids.len(), ELEMENTS);
    let expected = (1..=ELEMENTS).map(|index| format!("{job}_{index}"));
    assert!(
        ids.iter().copied().eq(expected),
        "in the order of their indices"
    );
    let last = rows(&cluster.json(&["history", &format!("{job}_[299999-300000]")]));
    assert_eq!(
        last.iter()
            .map(|row| row["array_task"].as_u64().unwrap())
            .collect::<Vec<_>>(),
        [299_999, 300_000]
    );
    let grown = peak_kib(cluster.controller()) - before;
    assert!(grown < 100 * 1024, "the controller grew by {grown} KiB");
}
