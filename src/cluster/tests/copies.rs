//! Jobs that ask for nothing: they carry files and are in nobody's way.

use super::*;
use crate::wire::client::NodeChange;

/// What `hpc cp` asks for, on one node.
fn copy(node: &str) -> JobSpec {
    let request = Request {
        cpus_per_task: Some(0),
        nodelist: vec![node.to_owned()],
        ntasks_per_node: Some(1),
        ..Request::default()
    };
    JobSpec {
        request: request.into(),
        launch: Launch::Tasks {
            arguments: BlobId([1; 32]),
        },
        ..spec()
    }
}

fn whole(cpus: u32) -> JobSpec {
    let request = Request {
        cpus_per_task: Some(cpus),
        ..Request::default()
    };
    JobSpec {
        request: request.into(),
        ..spec()
    }
}

#[test]
fn files_are_carried_to_full_and_drained_nodes_past_all_who_wait() {
    let mut fixture = Fixture::new(&[("a", 2)]);
    fixture.submit(whole(2));
    let waiting = fixture.submit(whole(2));
    let change = NodeChange::Drain {
        reason: "disk".into(),
    };
    fixture
        .run(Command::ChangeNode {
            who: user(0),
            name: "a".into(),
            change,
        })
        .unwrap();
    let before = fixture.launched.len();
    let carried = fixture.submit(copy("a"));
    let (_, launch) = &fixture.launched[before];
    assert_eq!(launch.key.job, carried);
    assert_eq!(
        (launch.shares[0].cpus.len(), launch.shares[0].memory_mib),
        (0, 0)
    );
    assert!(fixture.cluster.job(waiting).unwrap().slots.is_empty());
}

#[test]
fn only_what_goes_with_its_client_may_ask_for_nothing() {
    let mut fixture = Fixture::new(&[("a", 2)]);
    let script = JobSpec {
        launch: spec().launch,
        ..copy("a")
    };
    let with_memory = JobSpec {
        request: Request {
            memory: crate::model::resource::MemoryRequest::PerNode(1),
            ..Request::clone(&copy("a").request)
        }
        .into(),
        ..copy("a")
    };
    for wrong in [script, with_memory] {
        let refusal = fixture.submit_as(user(1000), wrong).unwrap_err();
        assert!(
            refusal.what.contains("0 cpus per task are asked for"),
            "{refusal}"
        );
    }
}
