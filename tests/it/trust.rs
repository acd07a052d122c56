//! What strangers, members and jobs cannot do, and that what is taken back is gone at once.

use crate::support::{Cluster, Member, PATIENCE, is_root, rows, wait_child, wait_until};
use hpc::model::ids::{JobId, SlotId, SlotKey};
use hpc::model::job::ExitStatus;
use hpc::model::join_line::JoinLine;
use hpc::net::client::{Credentials, Route, dial};
use hpc::net::identity::{self, Kind};
use hpc::net::membership::{MembershipError, greet, read_one};
use hpc::net::tls::Trust;
use hpc::wire::client::{Request, ToClient};
use hpc::wire::codec::encode;
use hpc::wire::hello::Role;
use hpc::wire::join::{Credential, JoinReply, JoinRequest};
use hpc::wire::worker::{FromSlot, FromWorker, StepEnd, ToWorker};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// How soon what is taken back must be gone.
const AT_ONCE: Duration = Duration::from_secs(5);

fn port(cluster: &Cluster) -> SocketAddr {
    let text = fs::read_to_string(cluster.state().join("controller/listen")).unwrap();
    text.trim().parse().unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(PATIENCE, future)
                .await
                .expect("an answer in time")
        })
}

/// A way to the controller with the key of this member.
async fn as_member(member: &Member, kind: Kind) -> Route {
    let known = identity::Member::open(member.state(), kind)
        .unwrap()
        .unwrap();
    let credentials = Credentials::of(&known).unwrap();
    dial(&credentials, &known.kept.addresses).await.unwrap()
}

/// What is said to somebody with a key that nobody knows.
fn as_stranger(line: &JoinLine, role: Role) -> Result<(), MembershipError> {
    wait(async {
        let key = identity::new_key().unwrap();
        let trust = Trust::Fingerprint(line.authority);
        let credentials = Credentials::new(identity::unvouched(&key).unwrap(), trust).unwrap();
        let route = dial(&credentials, &line.addresses).await.unwrap();
        greet(&route, role).await.map(|_| ())
    })
}

fn refused<T>(result: Result<T, MembershipError>) -> String {
    match result {
        Err(MembershipError::Refused(refusal)) => refusal.to_string(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("was let in"),
    }
}

#[test]
fn who_shows_no_certificate_gets_nothing_on_any_port() {
    let cluster = Cluster::up(1);
    let address = port(&cluster);
    // TLS without a certificate, whatever authority we pretend to trust.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let authority = fs::read(cluster.state().join("pki/authority.crt")).unwrap();
    let authority = pem::parse(authority).unwrap().into_contents();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.into()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"hpc".to_vec()];
    let config = Arc::new(config);
    let name = rustls::pki_types::ServerName::try_from("controller.hpc.internal").unwrap();
    let mut tls = rustls::ClientConnection::new(config.clone(), name).unwrap();
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let _ = stream.write_all(&encode(&hpc::wire::hello::Hello::new(Role::Client)));
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).expect_err("an alert");
    assert!(answer.is_empty(), "{answer:?}");
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    // The same over QUIC.
    wait(async {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connecting = endpoint
            .connect(address, "controller.hpc.internal")
            .unwrap();
        let error = match connecting.await {
            Err(error) => error,
            // TLS 1.3 tells a client only after it believes to be through.
            Ok(connection) => connection.closed().await,
        };
        assert!(error.to_string().contains("certificate"), "{error}");
    });
    // And no TLS at all.
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer);
    assert!(
        answer.len() < 16 && !answer.starts_with(b"HTTP"),
        "{answer:?}"
    );
}

#[test]
fn unknown_altered_reused_and_expired_invitations_are_refused() {
    let cluster = Cluster::up(1);
    let stranger = cluster.stranger("n2");
    let line = cluster.invite(&[]);
    // Altered on the way: noticed before anything is sent.
    let cut = &line[..line.len() - 1];
    assert!(
        stranger
            .refused(2, &["join", cut])
            .contains("cut or changed")
    );
    // A secret that nobody was given.
    let mut parsed: JoinLine = line.parse().unwrap();
    parsed.secret.0[3] ^= 1;
    let answer = stranger.join(&parsed.to_string(), 1);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("no such invitation"), "{answer:?}");
    // Another authority: whoever answers is not trusted with the secret.
    let mut parsed: JoinLine = line.parse().unwrap();
    parsed.authority.0[3] ^= 1;
    let answer = stranger.join(&parsed.to_string(), 1);
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.err.contains("another cluster"), "{answer:?}");
    // For a person, not for a machine, and the other way round.
    let person = cluster.invite(&["--role", "user", "--user", "alice"]);
    assert!(
        stranger
            .refused(2, &["join", &person])
            .contains("is for `hpc login`")
    );
    assert!(
        stranger
            .refused(2, &["login", &line])
            .contains("is for `hpc join`")
    );
    // Used up.
    assert_eq!(stranger.join(&line, 1).code, 0);
    let second = cluster.stranger("n3");
    let answer = second.join(&line, 1);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("used up"), "{answer:?}");
    // Expired.
    let open = || rows(&cluster.json(&["user", "list"])["invitations"]).len();
    let before = open();
    let short = cluster.invite(&["--ttl", "1s"]);
    wait_until("it has expired", PATIENCE, || open() == before);
    let answer = second.join(&short, 1);
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("expired"), "{answer:?}");
    // Taken back; those for people are others.
    let person = cluster.invite(&["--role", "user", "--user", "olga"]);
    let line = cluster.invite(&["--uses", "3"]);
    let said = cluster.ok(&["invite", "--withdraw"]);
    assert!(said.contains("taken back: worker"), "{said}");
    let answer = second.join(&line, 1);
    assert_eq!(answer.code, 4, "{answer:?}");
    let said = cluster.refused(1, &["invite", "--withdraw"]);
    assert!(said.contains("no open invitation admits: worker"), "{said}");
    cluster.stranger("olga").ok(&["login", &person]);
    let refusals = cluster.ok(&["audit"]);
    assert_eq!(refusals.matches("HPC-E0003").count(), 4, "{refusals}");
}

#[test]
fn a_key_that_nobody_knows_may_join_and_nothing_else() {
    let cluster = Cluster::up(1);
    let line: JoinLine = cluster.invite(&[]).parse().unwrap();
    for role in [
        Role::Client,
        Role::Worker,
        Role::WorkerData,
        Role::JobClient,
        Role::Renew,
    ] {
        let said = refused(as_stranger(&line, role));
        assert!(
            said.contains("does not know this machine's or person's key"),
            "{role:?}: {said}"
        );
    }
    as_stranger(&line, Role::Join).unwrap();
    // A certificate of another cluster's authority is as good as none.
    let other = Cluster::up(1);
    let guest = other.member("n2", 1);
    wait(async {
        let known = identity::Member::open(guest.state(), Kind::Node)
            .unwrap()
            .unwrap();
        let trust = Trust::Fingerprint(line.authority);
        let credentials = Credentials::new(known.pair(), trust).unwrap();
        let route = dial(&credentials, &line.addresses).await.unwrap();
        assert!(refused(greet(&route, Role::Worker).await).contains("does not know"));
    });
}

#[test]
fn a_nodes_key_speaks_for_that_node_and_for_nobody() {
    let cluster = Cluster::up(2);
    let member = cluster.member("n2", 1);
    let job = cluster.submit(&[
        "-w",
        "n1",
        "-o",
        "out",
        "--wrap",
        "while [ ! -e go ]; do sleep 0.02; done",
    ]);
    cluster.wait_for_state(job, "RUNNING");
    let key = SlotKey {
        job: JobId(job),
        slot: SlotId(0),
    };
    wait(async {
        let route = as_member(&member, Kind::Node).await;
        let said = refused(greet(&route, Role::Client).await);
        assert!(
            said.contains("speaks for that machine, not for people"),
            "{said}"
        );
        // A credential that it made up, and one for a job of another node.
        for proof in [[0; 32], [7; 32]] {
            let (mut stream, _) = greet(&route, Role::JobClient).await.unwrap();
            let mut said = encode(&Credential { key, proof });
            said.extend(encode(&Request::Status));
            stream.write_all(&said).await.unwrap();
            stream.flush().await.unwrap();
            match read_one::<ToClient>(&mut stream, 1 << 16).await.unwrap() {
                ToClient::Refused(refusal) => {
                    assert!(refusal.what.contains("does not run on n2"), "{refusal}")
                }
                other => panic!("{other:?}"),
            }
        }
        // It may say that a job of another node has ended; nobody listens.
        let (mut control, _) = greet(&route, Role::Worker).await.unwrap();
        let inventory = inventory(&cluster, "n2");
        let introduced = FromWorker::Introduce {
            inventory,
            slots: Vec::new(),
            user: None,
        };
        let end = StepEnd {
            step: hpc::model::ids::StepId(0),
            tasks: vec![(0, ExitStatus { code: 9, signal: 0 })],
            name: "forged".to_owned(),
            started: hpc::model::time::Timestamp(0),
            ended: hpc::model::time::Timestamp(0),
            usage: Default::default(),
            failure: None,
        };
        let lost = FromSlot::Lost {
            positions: Default::default(),
            ends: Vec::new(),
            certain: true,
        };
        let mut said = encode(&introduced);
        for report in [FromSlot::StepEnded { report: 1, end }, lost] {
            said.extend(encode(&FromWorker::Slot { key, report }));
        }
        control.write_all(&said).await.unwrap();
        control.flush().await.unwrap();
        // Terms come first.
        let mut registered = false;
        while !registered {
            let order: ToWorker = read_one(&mut control, 1 << 20).await.unwrap();
            registered = matches!(order, ToWorker::Registered { .. });
        }
        // Orders come back: that slot is none of its own.
        let mut closed = false;
        while !closed {
            let order: ToWorker = read_one(&mut control, 1 << 20).await.unwrap();
            closed = matches!(order, ToWorker::Slot { key: of, order: hpc::wire::worker::ToSlot::Close } if of == key);
        }
        // Nor is it n1.
        let (mut control, _) = greet(&route, Role::Worker).await.unwrap();
        let inventory = self::inventory(&cluster, "n1");
        let introduced = FromWorker::Introduce {
            inventory,
            slots: Vec::new(),
            user: None,
        };
        control.write_all(&encode(&introduced)).await.unwrap();
        control.flush().await.unwrap();
        let answer = read_one::<ToWorker>(&mut control, 1 << 20).await;
        assert!(answer.is_err(), "it took another's name: {answer:?}");
    });
    assert_eq!(cluster.state_of(job), "RUNNING");
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 0);
    let steps = cluster.job(job)["steps"].to_string();
    assert!(!steps.contains("forged"), "{steps}");
    // A person's key is no machine's.
    let alice = cluster.person("alice", "admin");
    wait(async {
        let route = as_member(&alice, Kind::User).await;
        for role in [Role::Worker, Role::WorkerData, Role::JobClient] {
            assert!(
                refused(greet(&route, role).await).contains("speaks for no machine"),
                "{role:?}"
            );
        }
    });
}

/// What n2 might say of itself.
fn inventory(cluster: &Cluster, name: &str) -> hpc::model::node::Inventory {
    let node = cluster.json(&["node", "n2"]);
    assert_eq!(node["name"], "n2");
    hpc::model::node::Inventory {
        name: name.to_owned(),
        topology: hpc::model::topology::Topology {
            cpus: Vec::new(),
            numa_nodes: Vec::new(),
            memory_mib: 1,
            gpus: Vec::new(),
        },
        boot_id: "made up".to_owned(),
        version: "0".to_owned(),
        uid: 0,
        remarks: Vec::new(),
    }
}

#[test]
fn what_is_taken_back_is_cut_at_once() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "operator");
    let job = cluster.submit(&["--wrap", "exec sleep 1000"]);
    let mut waiting = alice
        .hpc(&["logs", "-f", &job.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    cluster.wait_for_state(job, "RUNNING");
    alice.ok(&["queue"]);
    let begun = Instant::now();
    cluster.ok(&["user", "revoke", "alice"]);
    assert!(alice.refused(4, &["queue"]).contains("HPC-E0017"));
    assert!(begun.elapsed() < AT_ONCE);
    // The connection that was open: it ends, though its command may try again for a while.
    wait_until("it is told no", AT_ONCE, || {
        waiting
            .try_wait()
            .unwrap()
            .is_some_and(|status| !status.success())
    });
    // A machine, with a job on it.
    let member = cluster.member("n2", 1);
    let there = cluster.submit(&[
        "-w",
        "n2",
        "--requeue",
        "--wrap",
        "touch began; exec sleep 1000",
    ]);
    wait_until("it has begun", PATIENCE, || cluster.exists("began"));
    assert!(
        cluster
            .refused(1, &["node", "remove", "n2"])
            .contains("--force")
    );
    let begun = Instant::now();
    cluster.ok(&["node", "remove", "--force", "n2"]);
    wait_until("its worker and its job are gone", AT_ONCE, || {
        !cluster
            .processes()
            .iter()
            .any(|pid| is_of(*pid, member.state()))
    });
    assert!(begun.elapsed() < AT_ONCE);
    assert_eq!(
        cluster.state_of(there),
        "NODE_FAIL",
        "nobody could say when it was over"
    );
    assert_eq!(rows(&cluster.json(&["nodes"])).len(), 1);
    // Its key opens nothing.
    wait(async {
        let known = identity::Member::open(member.state(), Kind::Node)
            .unwrap()
            .unwrap();
        let route = dial(&Credentials::of(&known).unwrap(), &known.kept.addresses)
            .await
            .unwrap();
        assert!(refused(greet(&route, Role::Worker).await).contains("HPC-E0017"));
        assert!(refused(greet(&route, Role::Renew).await).contains("HPC-E0017"));
    });
    // With a new line it is as welcome as any machine.
    assert_eq!(member.join(&cluster.invite(&[]), 1).code, 0);
    cluster.ok(&["cancel", &job.to_string()]);
}

/// Whether a process's command line names this directory.
fn is_of(pid: i32, state: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(&*state.to_string_lossy())
}

#[test]
fn certificates_are_renewed_by_themselves_and_after_they_have_expired() {
    let cluster = Cluster::prepared(1);
    let config = cluster.path("hpc.toml");
    fs::write(&config, "certificate_life_s = 6\n").unwrap();
    let words = [
        "up",
        "--detach",
        "--listen",
        "127.0.0.1:0",
        "--name",
        "n1",
        "--config",
    ];
    assert_eq!(
        cluster
            .run(&[&words[..], &[config.to_str().unwrap()]].concat())
            .code,
        0
    );
    let alice = cluster.person("alice", "user");
    let member = cluster.member("n2", 1);
    let agent = member.agent();
    let expires = |name: &str| {
        let members = cluster.json(&["user", "list"]);
        let keys = rows(&members["keys"]);
        let key = keys.iter().find(|key| key["name"] == name).unwrap().clone();
        key["expires"].as_str().unwrap().to_owned()
    };
    let first = expires("n2");
    wait_until("the node's is renewed", PATIENCE, || expires("n2") != first);
    let second = expires("n2");
    wait_until("and again", PATIENCE, || expires("n2") != second);
    assert_eq!(member.agent(), agent, "without a restart");
    assert_eq!(cluster.json(&["node", "n2"])["responding"], true);
    // Hers has expired by now, as she was away; the next command renews it.
    let before = expires("alice");
    assert!(before < second, "{before} {second}");
    alice.ok(&["queue"]);
    assert!(expires("alice") > before);
    // A machine that was off for longer than its certificate's life comes back.
    crate::support::kill_and_wait(member.agent());
    let old = expires("n2");
    wait_until("it has expired", PATIENCE, || {
        let now = cluster.ok(&["status", "--json"]);
        let now: serde_json::Value = serde_json::from_str(&now).unwrap();
        now["now"].as_str().is_some_and(|now| now > old.as_str())
    });
    let mut worker = member
        .hpc(&["worker", "--cpus", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it is back", PATIENCE, || {
        cluster.json(&["node", "n2"])["responding"] == true && expires("n2") > old
    });
    member.ok(&["down"]);
    wait_child(&mut worker, PATIENCE).expect("it ends");
}

#[test]
fn a_jobs_credential_is_good_on_its_node_until_it_ends() {
    let cluster = Cluster::up(1);
    let member = cluster.member("n2", 1);
    let other = cluster.member("n3", 1);
    let job = cluster.submit(&[
        "-w",
        "n2",
        "-o",
        "out",
        "--wrap",
        "cp $HPC_CREDENTIAL kept; while [ ! -e go ]; do sleep 0.02; done",
    ]);
    wait_until("it has a copy", PATIENCE, || {
        cluster.exists("kept") && fs::metadata(cluster.work.join("kept")).unwrap().len() > 0
    });
    let kept = cluster.work.join("kept");
    let with = |socket: &Path| {
        let mut command = cluster.hpc(&["queue"]);
        command
            .env_remove("HPC_STATE_DIR")
            .env("HPC_CONTROLLER", format!("unix:{}", socket.display()))
            .env("HPC_CREDENTIAL", &kept);
        crate::support::finish(&mut command, b"")
    };
    let there = with(&member.socket());
    assert_eq!(there.code, 0, "{there:?}");
    // On another node, whose agent has never heard of that job.
    let answer = with(&other.socket());
    assert_eq!(answer.code, 4, "{answer:?}");
    // Without one that node's socket serves nobody.
    let mut bare = cluster.hpc(&["queue"]);
    bare.env_remove("HPC_STATE_DIR").env(
        "HPC_CONTROLLER",
        format!("unix:{}", other.socket().display()),
    );
    let answer = crate::support::finish(&mut bare, b"");
    assert_eq!(answer.code, 4, "{answer:?}");
    assert!(answer.err.contains("hpc login"), "{answer:?}");
    // Past the agent, with the other node's own key: the controller says no too.
    let stolen = fs::read(&kept).unwrap();
    let say = |member: &Member| {
        let stolen = stolen.clone();
        wait(async {
            let route = as_member(member, Kind::Node).await;
            let (mut stream, _) = greet(&route, Role::JobClient).await.unwrap();
            stream
                .write_all(&[stolen, encode(&Request::Status)].concat())
                .await
                .unwrap();
            stream.flush().await.unwrap();
            read_one::<ToClient>(&mut stream, 1 << 16).await.unwrap()
        })
    };
    assert!(matches!(say(&other), ToClient::Refused(_)));
    assert!(matches!(say(&member), ToClient::Status(_)));
    fs::write(cluster.work.join("go"), "").unwrap();
    assert_eq!(cluster.run(&["wait", &job.to_string()]).code, 0);
    cluster.wait_empty(PATIENCE);
    assert_eq!(with(&member.socket()).code, 4, "its job is over");
    assert!(
        matches!(say(&member), ToClient::Refused(_)),
        "its job is over"
    );
}

#[test]
fn needs_root_a_jobs_credential_is_no_good_for_another_user() {
    if !is_root("needs_root_a_jobs_credential_is_no_good_for_another_user") {
        return;
    }
    let mut cluster = Cluster::prepared(1);
    cluster.open_to_all();
    cluster.start();
    let member = cluster.member("n2", 1);
    fs::set_permissions(member.state(), fs::Permissions::from_mode(0o755)).unwrap();
    let job = cluster.submit(&[
        "-w",
        "n2",
        "--wrap",
        "cp $HPC_CREDENTIAL kept; chmod 644 kept; touch copied; exec sleep 1000",
    ]);
    wait_until("it has a copy", PATIENCE, || cluster.exists("copied"));
    let path = member
        .state()
        .join(format!("worker/slots/{job}.0/credential"));
    let data = fs::metadata(&path).unwrap();
    assert_eq!(data.permissions().mode() & 0o7777, 0o400);
    let nobody = cluster.seen_by(65534, 65534);
    for credential in [path, cluster.work.join("kept")] {
        let mut command = nobody.hpc(&["queue"]);
        command
            .env_remove("HPC_STATE_DIR")
            .env(
                "HPC_CONTROLLER",
                format!("unix:{}", member.socket().display()),
            )
            .env("HPC_CREDENTIAL", &credential);
        let answer = crate::support::finish(&mut command, b"");
        assert_eq!(answer.code, 4, "{answer:?}");
    }
    // Nor do others hear that nothing runs there.
    let mut command = nobody.hpc(&["down", "--yes"]);
    command.env("HPC_STATE_DIR", member.state());
    let answer = crate::support::finish(&mut command, b"");
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.err.contains("another user"), "{answer:?}");
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn keys_are_private_and_secrets_are_in_no_argument_variable_or_log() {
    let cluster = Cluster::up(1);
    let line = cluster.invite(&["--uses", "2"]);
    let parsed: JoinLine = line.parse().unwrap();
    let member = cluster.stranger("n2");
    assert_eq!(member.join(&line, 1).code, 0);
    let login = cluster.invite(&["--role", "user", "--user", "alice"]);
    let alice = cluster.stranger("of-alice");
    alice.ok(&["login", &login]);
    let job = cluster.submit(&[
        "-w",
        "n2",
        "--wrap",
        "cp $HPC_CREDENTIAL kept; touch copied; env > env.txt; exec sleep 1000",
    ]);
    wait_until("it runs", PATIENCE, || cluster.exists("copied"));
    // Wrong ones too are no reason to write them down.
    let mut wrong = parsed.clone();
    wrong.secret.0[0] ^= 1;
    assert_eq!(cluster.stranger("n3").join(&wrong.to_string(), 1).code, 4);
    for state in [cluster.state(), member.state(), alice.state()] {
        let pki = state.join("pki");
        assert_eq!(
            fs::metadata(&pki).unwrap().permissions().mode() & 0o7777,
            0o700
        );
        for entry in fs::read_dir(&pki).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
    let token = |line: &str| line.split_once('_').unwrap().1.to_owned();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let proof = fs::read(cluster.work.join("kept")).unwrap();
    let proof = &proof[proof.len() - 32..];
    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for text in [
        token(&line),
        token(&login),
        token(&wrong.to_string()),
        hex(&parsed.secret.0),
        hex(proof),
        format!("{:?}", parsed.secret.0),
        format!("{proof:?}"),
    ] {
        secrets.push(text.into_bytes());
    }
    secrets.push(parsed.secret.0.to_vec());
    secrets.push(proof.to_vec());
    for key in ["authority.key", "jobs.key"] {
        let bytes = fs::read(cluster.state().join("pki").join(key)).unwrap();
        // The middle of a key's text: its frame is no secret.
        secrets.push(bytes[bytes.len() / 3..bytes.len() / 2].to_vec());
    }
    let mut searched = 0;
    let mut search = |what: &str, bytes: &[u8]| {
        searched += 1;
        for secret in &secrets {
            let found = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_slice());
            assert!(!found, "a secret is in {what}");
        }
    };
    for pid in cluster.processes() {
        for file in ["cmdline", "environ"] {
            let path = format!("/proc/{pid}/{file}");
            search(&path, &fs::read(&path).unwrap_or_default());
        }
    }
    for path in [
        cluster.state().join("controller/controller.log"),
        cluster.state().join("worker/agent.log"),
        member.state().join("worker/agent.log"),
        member.state().join("worker/shepherd.log"),
        cluster.work.join("env.txt"),
        // Of an invitation only the hash is stored.
        cluster.state().join("controller/hpc.redb"),
    ] {
        search(
            &path.display().to_string(),
            &fs::read(&path).unwrap_or_default(),
        );
    }
    assert!(searched > 12, "{searched}");
    // The search would find one: it is in the job's copy of its credential.
    let kept = fs::read(cluster.work.join("kept")).unwrap();
    assert!(kept.windows(32).any(|window| window == proof));
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn a_connection_to_a_controller_that_is_gone_is_noticed_though_it_was_never_tied() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    wait(async {
        let route = as_member(&alice, Kind::User).await;
        let _stream = greet(&route, Role::Client).await.unwrap();
        cluster.kill_controller();
        let tethered = tokio::spawn(async move { route.tethered().await });
        cluster.start();
        // The one after it says so; QUIC alone would take 30 s.
        let noticed = tokio::time::timeout(Duration::from_secs(12), tethered).await;
        noticed.expect("its end is noticed").unwrap();
    });
}

#[test]
fn who_is_known_may_be_silent_on_a_single_stream() {
    let cluster = Cluster::up(1);
    let alice = cluster.person("alice", "user");
    let job = cluster.submit(&["--hold", "--wrap", "true"]);
    wait(async {
        let route = as_member(&alice, Kind::User).await;
        let (mut stream, _) = greet(&route, Role::Client).await.unwrap();
        let selector = hpc::wire::client::Selector { job, indices: None };
        let request = Request::Wait(vec![selector]);
        stream.write_all(&encode(&request)).await.unwrap();
        stream.flush().await.unwrap();
        // Strangers have 10 s for their first word.
        let answer = read_one::<ToClient>(&mut stream, 1 << 16);
        let answer = tokio::time::timeout(Duration::from_secs(12), answer).await;
        assert!(answer.is_err(), "it still waits: {answer:?}");
    });
    cluster.ok(&["cancel", &job.to_string()]);
}

#[test]
fn a_newcomer_is_bounded_in_what_it_may_say() {
    let cluster = Cluster::up(1);
    let line: JoinLine = cluster.invite(&[]).parse().unwrap();
    wait(async {
        let key = identity::new_key().unwrap();
        let trust = Trust::Fingerprint(line.authority);
        let credentials = Credentials::new(identity::unvouched(&key).unwrap(), trust).unwrap();
        let route = dial(&credentials, &line.addresses).await.unwrap();
        // Longer than a hello may be.
        let mut stream = route.open().await.unwrap();
        stream.write_all(&(1u32 << 20).to_le_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert!(read_one::<JoinReply>(&mut stream, 1 << 16).await.is_err());
        drop(stream);
        // A name as long as a frame.
        let (mut stream, _) = greet(&route, Role::Join).await.unwrap();
        let request = JoinRequest {
            secret: line.secret.0,
            name: "x".repeat(3000),
        };
        stream.write_all(&encode(&request)).await.unwrap();
        stream.flush().await.unwrap();
        match read_one::<JoinReply>(&mut stream, 1 << 16).await.unwrap() {
            JoinReply::Refused(refusal) => {
                assert!(refusal.what.contains("cannot name a node"), "{refusal}")
            }
            JoinReply::Joined(_) => panic!("was let in"),
        }
    });
    // It is as good as before: what was refused used nothing up.
    assert_eq!(cluster.stranger("n2").join(&line.to_string(), 1).code, 0);
}
