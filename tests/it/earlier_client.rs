//! A client of the build before this one, which knows of one node: spoken by hand, since no such program is at hand.

use crate::support::{Cluster, PATIENCE};
use hpc::model::ids::StepId;
use hpc::wire::client::{FromClient, Request, ToClient};
use hpc::wire::codec::{self, FRAME_MAX};
use hpc::wire::hello::{Hello, HelloReply, MAGIC, Role};
use hpc::wire::worker::LogChunk;
use std::os::unix::net::UnixStream;

fn attach(cluster: &Cluster, job: u32) -> UnixStream {
    let mut stream = UnixStream::connect(cluster.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = Hello {
        magic: MAGIC,
        versions: (1, 1),
        role: Role::Client,
    };
    codec::write(&mut stream, &hello).unwrap();
    let request = Request::Attach {
        job,
        step: StepId(0),
        offset: 0,
        owner: false,
    };
    codec::write(&mut stream, &request).unwrap();
    let reply = codec::read::<HelloReply>(&mut stream, FRAME_MAX).unwrap();
    assert!(
        matches!(reply, Some(HelloReply::Welcome { version: 1, .. })),
        "{reply:?}"
    );
    stream
}

fn next(stream: &mut UnixStream) -> ToClient {
    codec::read(stream, FRAME_MAX).unwrap().unwrap()
}

#[test]
fn it_follows_a_run_on_one_node_and_is_refused_one_on_several() {
    let cluster = Cluster::up(2);
    let _second = cluster.join("n2", 2);
    assert_eq!(
        cluster.run(&["run", "sh", "-c", "echo one; exit 3"]).code,
        3
    );
    let mut stream = attach(&cluster, 1);
    assert!(matches!(next(&mut stream), ToClient::Started { .. }));
    let ToClient::Data { offset: 0, bytes } = next(&mut stream) else {
        panic!("no data")
    };
    assert_eq!(&bytes[LogChunk::SIZE..], b"one\n");
    codec::write(&mut stream, &FromClient::Taken { offset: 16 }).unwrap();
    assert_eq!(next(&mut stream), ToClient::DataEnd { error: None });
    assert!(matches!(
        next(&mut stream),
        ToClient::Ended {
            job: 1,
            code: 3,
            ..
        }
    ));
    cluster.ok(&["run", "-N", "2", "true"]);
    let answer = next(&mut attach(&cluster, 2));
    assert!(
        matches!(&answer, ToClient::Refused(refusal) if refusal.what.contains("several nodes")),
        "{answer:?}"
    );
}
