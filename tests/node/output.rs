//! Attached tasks, their input, and output read back through the agent.

use crate::fake::{Node, Order};
use hpc::model::ids::{SlotKey, StepId};
use hpc::model::job::JobState;
use hpc::wire::worker::{
    FromSlot, FromWorker, LogChunk, OpenStream, StepLaunch, StreamSource, ToSlot, ToWorker,
};

fn open(node: &mut Node, key: SlotKey, source: StreamSource, offset: u64, follow: bool) {
    let owner = Order::command(node, 1, &["x"]).launch.owner;
    node.send(ToWorker::OpenStream(OpenStream {
        stream: 77,
        key,
        position: 0,
        source,
        offset,
        follow,
        owner,
    }));
}

/// All bytes to the stream's end, or its error.
fn collect(node: &mut Node) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    loop {
        let step = node.until(|message| match message {
            FromWorker::StreamData {
                stream: 77,
                bytes,
                offset,
            } => Some(Ok((bytes.clone(), *offset))),
            FromWorker::StreamEnd { stream: 77, error } => Some(Err(error.clone())),
            _ => None,
        });
        match step {
            Ok((bytes, offset)) => {
                all.extend(&bytes);
                let offset = offset + bytes.len() as u64;
                node.send(ToWorker::StreamTaken { stream: 77, offset });
            }
            Err(Some(error)) => return Err(error),
            Err(None) => return Ok(all),
        }
    }
}

/// What one rank said on one stream.
fn said(log: &[u8], rank: u32, stream: u8) -> String {
    let mut rest = log;
    let mut text = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<{ LogChunk::SIZE }>() {
        let chunk = LogChunk::decode(header).expect("a header");
        let (bytes, after) = after.split_at(chunk.length as usize);
        if (chunk.rank, chunk.stream) == (rank, stream) {
            text.extend(bytes);
        }
        rest = after;
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn tasks_get_their_ranks_and_input_and_their_output_is_logged_to_the_end() {
    let mut node = Node::up();
    let text = "echo out $SLURM_PROCID of $SLURM_NTASKS; echo err $SLURM_PROCID >&2; cat; exit $SLURM_PROCID";
    let order = Order::tasks(&node, 300, 3, &["sh", "-c", text]);
    let key = node.launch(order.launch);
    open(&mut node, key, StreamSource::StepLog(StepId(0)), 0, true);
    node.order(
        key,
        ToSlot::Stdin {
            step: StepId(0),
            offset: 0,
            bytes: b"hello ".to_vec(),
            end: false,
        },
    );
    node.order(
        key,
        ToSlot::Stdin {
            step: StepId(0),
            offset: 6,
            bytes: b"there".to_vec(),
            end: true,
        },
    );
    let log = collect(&mut node).unwrap();
    for rank in 0..3 {
        assert_eq!(said(&log, rank, 1), format!("out {rank} of 3\nhello there"));
        assert_eq!(said(&log, rank, 2), format!("err {rank}\n"));
    }
    open(&mut node, key, StreamSource::StepLog(StepId(0)), 12, false);
    assert_eq!(collect(&mut node).unwrap(), log[12..]);
    node.hang_up();
    node.welcome();
    node.order(key, ToSlot::Close);
}

#[test]
fn input_that_is_said_again_is_answered_again() {
    let mut node = Node::up();
    let order = Order::tasks(&node, 302, 2, &["cat"]);
    let key = node.launch(order.launch);
    let hello = ToSlot::Stdin {
        step: StepId(0),
        offset: 0,
        bytes: b"hello".to_vec(),
        end: false,
    };
    for _ in 0..2 {
        node.order(key, hello.clone());
        node.until(|message| match message {
            FromWorker::Slot {
                report: FromSlot::StdinTaken { offset: 5, .. },
                ..
            } => Some(()),
            _ => None,
        });
    }
    node.order(key, ToSlot::Close);
}

#[test]
fn each_ranks_exit_is_reported_before_the_end() {
    let mut node = Node::up();
    let order = Order::tasks(&node, 301, 2, &["sh", "-c", "exit $((SLURM_PROCID * 5))"]);
    node.launch(order.launch);
    let step = node.until(|message| match message {
        FromWorker::Slot {
            report: FromSlot::StepEnded { end, .. },
            ..
        } => Some(end.clone()),
        _ => None,
    });
    assert_eq!(
        step.tasks
            .iter()
            .map(|(rank, exit)| (*rank, exit.code))
            .collect::<Vec<_>>(),
        [(0, 0), (1, 5)]
    );
    let end = node.end();
    assert_eq!((end.state, end.exit.code), (JobState::Failed, 5));
}

#[test]
fn a_large_input_passes_through_a_small_window() {
    let mut node = Node::up();
    let order = Order::tasks(&node, 302, 1, &["sh", "-c", "sleep 0.2; md5sum"]);
    let key = node.launch(order.launch);
    let bytes: Vec<u8> = (0..3_000_000u32).map(|index| (index % 251) as u8).collect();
    let (mut sent, mut taken) = (0, 0);
    while sent < bytes.len() {
        while sent < bytes.len() && sent - taken < 1024 * 1024 {
            let end = (sent + 60_000).min(bytes.len());
            let last = end == bytes.len();
            node.order(
                key,
                ToSlot::Stdin {
                    step: StepId(0),
                    offset: sent as u64,
                    bytes: bytes[sent..end].to_vec(),
                    end: last,
                },
            );
            sent = end;
        }
        if sent < bytes.len() {
            taken = node.until(|message| match message {
                FromWorker::Slot {
                    report: FromSlot::StdinTaken { offset, .. },
                    ..
                } => Some(usize::try_from(*offset).unwrap()),
                _ => None,
            });
        }
    }
    assert_eq!(node.end().state, JobState::Completed);
    open(&mut node, key, StreamSource::StepLog(StepId(0)), 0, false);
    let log = collect(&mut node).unwrap();
    assert_eq!(
        said(&log, 0, 1).split_whitespace().next().unwrap().len(),
        32
    );
}

#[test]
fn a_file_is_followed_to_the_end_of_its_element_and_windowed() {
    let mut node = Node::up();
    let order = Order::script(
        &node,
        303,
        "for i in 1 2 3; do echo line $i; sleep 0.1; done; head -c 5000000 /dev/zero",
    );
    let key = node.launch(order.launch);
    let path = node
        .work()
        .join("slurm-303.out")
        .to_string_lossy()
        .into_owned();
    open(&mut node, key, StreamSource::File(path.clone()), 0, true);
    let bytes = collect(&mut node).unwrap();
    assert!(bytes.starts_with(b"line 1\nline 2\nline 3\n"));
    assert_eq!(bytes.len(), 21 + 5_000_000);
    for (path, what) in [
        ("/dev/null", "not a regular file"),
        ("/no/such/file", "no file"),
        ("relative", "absolute"),
    ] {
        open(&mut node, key, StreamSource::File(path.into()), 0, false);
        let error = collect(&mut node).unwrap_err();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_step_in_a_held_allocation() {
    let mut node = Node::up();
    let mut order = Order::command(&node, 304, &["x"]);
    order.spec().launch = hpc::model::job::Launch::Hold;
    let key = node.launch(order.launch);
    node.started();
    let step = StepLaunch {
        step: StepId(3),
        arguments: ["sh", "-c", "echo $SLURM_STEP_ID $FOO; exit 2"]
            .map(str::to_owned)
            .to_vec(),
        environment: vec![
            (b"FOO".to_vec(), b"bar".to_vec()),
            (b"PATH".to_vec(), b"/usr/bin:/bin".to_vec()),
        ],
        work_dir: "/tmp".into(),
        tasks: vec![1],
        cpus_per_task: 1,
    };
    node.order(key, ToSlot::StartStep(std::sync::Arc::new(step)));
    open(&mut node, key, StreamSource::StepLog(StepId(3)), 0, true);
    let log = collect(&mut node).unwrap();
    assert_eq!(said(&log, 0, 1), "3 bar\n");
    node.order(key, ToSlot::Release { code: 0 });
    assert_eq!(node.end().state, JobState::Completed);
}
