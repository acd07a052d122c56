//! How fast an array of no-op tasks goes through agent and shepherd, beside the bare spawn rate. Ignored by
//! default; `cargo test --profile fast --test node -- --ignored --nocapture speed`.

use crate::fake::{Node, Order};
use hpc::sys::spawn::{SpawnRequest, c_strings, spawn};
use std::time::Instant;

const TASKS: u32 = 5000;

#[test]
#[ignore = "a measurement"]
fn speed_of_an_array_of_no_ops() {
    let mut node = Node::up();
    for round in 0..3 {
        let mut order = Order::command(&node, 1000 * (round + 1), &["true"]).array(TASKS);
        order.spec().output = Some("/dev/null".into());
        let begun = Instant::now();
        node.launch(order.launch);
        node.ends(TASKS as usize);
        let rate = f64::from(TASKS) / begun.elapsed().as_secs_f64();
        let bare = bare();
        println!(
            "array {rate:.0}/s, bare spawn and wait {bare:.0}/s: {:.0} %",
            100.0 * rate / bare
        );
    }
    let mut order = Order::command(&node, 9, &["true"]);
    order.spec().output = Some("/dev/null".into());
    let begun = Instant::now();
    node.launch(order.launch);
    node.end();
    println!("one job, launch to end: {:?}", begun.elapsed());
}

/// Starts `true` one after another by the same function, with nothing around it.
fn bare() -> f64 {
    let arguments = c_strings(["true"]).unwrap();
    let environment = c_strings(["PATH=/usr/bin:/bin"]).unwrap();
    let begun = Instant::now();
    for _ in 0..TASKS {
        let spawned = spawn(&SpawnRequest::new(
            c"/usr/bin/true",
            &arguments,
            &environment,
        ))
        .unwrap();
        let ended = hpc::sys::reap::wait_for(spawned.pid);
        assert!(ended.is_some());
    }
    f64::from(TASKS) / begun.elapsed().as_secs_f64()
}
