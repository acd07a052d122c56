//! What must hold for any bytes at all: one function for each fuzz target.
//!
//! A decoder of outside bytes may refuse, and may not panic, hang or allocate out of proportion; what it accepts
//! comes back the same after it was written again. The functions are run by libFuzzer (`targets/`) and, over the
//! kept corpus and the seeds, by an ordinary test (`tests/fuzz_corpus.rs`). They answer whether the bytes were
//! understood, so that the test notices when seeds no longer reach what they were made for.
//!
//! Most targets look at the first byte to choose what the rest is read as; `seeds.rs` knows the numbers by name.

use hpc::config::{Config, Policy, Priority};
use hpc::model::array::{self, ArraySpec};
use hpc::model::constraint::Constraint;
use hpc::model::cpu_set::CpuSet;
use hpc::model::dependency::Dependency;
use hpc::model::export::ExportSpec;
use hpc::model::filename::{self, ArrayElement, FilenameContext, FilenameError};
use hpc::model::ids::{JobId, NodeId, StepId};
use hpc::model::index_set::IndexSet;
use hpc::model::job::{JobSpec, JobState, Surroundings};
use hpc::model::job_ref::{self, JobRef};
use hpc::model::join_line::{JoinLine, parse_address};
use hpc::model::rules::{Noun, Rules};
use hpc::model::signal::SignalSpec;
use hpc::model::switches::{self, SwitchWish};
use hpc::model::time::{self, Timestamp};
use hpc::model::wishes::Wishes;
use hpc::model::{booking, directive, gres, hostlist, reservation, signal, size};
use hpc::scheduler::packing::{self, Measure, Mix, Node, Packer};
use hpc::sim::gpu::GpuLines;
use hpc::sim::swf::Trace;
use hpc::sim::{Rule, replay};
use hpc::steps::journal::{self, Record, Replay};
use hpc::steps::pmi::{self, NameAnswer, PmiAct, PmiFacts, PmiServer};
use hpc::store::{self, bytes as stored};
use hpc::wire::client::{FromClient, Request, ToClient};
use hpc::wire::codec::{self, CodecError, FRAME_MAX, FrameBuffer, REQUEST_MAX};
use hpc::wire::hello::{Hello, HelloReply, VERSION, VERSION_OLDEST};
use hpc::wire::join::{Credential, JoinReply, JoinRequest};
use hpc::wire::pmix::{FromPmix, ToPmix};
use hpc::wire::shepherd::{FromShepherd, ToShepherd};
use hpc::wire::worker::{FromSlot, FromWorker, LogChunk, ToSlot, ToWorker};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;

/// A check: any bytes in, whether they were understood out.
pub type Check = fn(&[u8]) -> bool;

/// Every target by its name, which is also that of its corpus.
pub const TARGETS: [(&str, Check); 11] = [
    ("frames", frames),
    ("client", client),
    ("worker", worker),
    ("script", script),
    ("values", values),
    ("records", records),
    ("journal", journal),
    ("config", config),
    ("trace", trace),
    ("gpu_trace", gpu_trace),
    ("pmi", pmi),
];

/// Lists that unfold to more than this are only parsed, so that the fuzzer does not spend its time on them.
const UNFOLDED_MAX: usize = 2_000;

// ---- frames -------------------------------------------------------------------------------------------------

/// A stream, cut in pieces or read as a whole, gives the same values and the same end.
/// Bytes: what kind, length of a piece, the stream.
pub fn frames(bytes: &[u8]) -> bool {
    let [kind, cut, stream @ ..] = bytes else {
        return false;
    };
    let cut = usize::from(*cut).max(1);
    match kind {
        0 => framed::<Hello>(stream, cut, REQUEST_MAX),
        1 => framed::<Request>(stream, cut, REQUEST_MAX),
        2 => framed::<FromClient>(stream, cut, REQUEST_MAX),
        3 => framed::<ToClient>(stream, cut, FRAME_MAX),
        4 => framed::<FromWorker>(stream, cut, FRAME_MAX),
        5 => framed::<ToWorker>(stream, cut, FRAME_MAX),
        6 => framed::<FromShepherd>(stream, cut, FRAME_MAX),
        7 => framed::<ToShepherd>(stream, cut, FRAME_MAX),
        8 => step_log(stream),
        9 => framed::<FromPmix>(stream, cut, FRAME_MAX),
        _ => false,
    }
}

/// How a stream of frames came to its end.
#[derive(Debug, PartialEq, Eq)]
enum StreamEnd {
    Over,
    TooLong,
    Malformed,
}

impl From<CodecError> for StreamEnd {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLong { .. } => StreamEnd::TooLong,
            CodecError::Malformed { .. } => StreamEnd::Malformed,
            CodecError::Io(_) => StreamEnd::Over,
        }
    }
}

fn framed<T: Serialize + DeserializeOwned>(stream: &[u8], cut: usize, most: usize) -> bool {
    let mut buffer = FrameBuffer::default();
    let mut gathered = Vec::new();
    let mut gathered_end = StreamEnd::Over;
    'pieces: for piece in stream.chunks(cut) {
        buffer.extend(piece);
        loop {
            match buffer.next::<T>(most) {
                Ok(Some(value)) => gathered.push(codec::encode(&value)),
                Ok(None) => break,
                Err(error) => {
                    gathered_end = error.into();
                    break 'pieces;
                }
            }
        }
    }
    let mut rest = stream;
    let mut read = Vec::new();
    let read_end = loop {
        match codec::read::<T>(&mut rest, most) {
            Ok(Some(value)) => read.push(codec::encode(&value)),
            Ok(None) => break StreamEnd::Over,
            Err(error) => break error.into(),
        }
    };
    assert_eq!(gathered, read, "a cut stream gives the same values");
    assert_eq!(gathered_end, read_end, "a cut stream ends the same");
    !read.is_empty()
}

/// The log of a step: headers, each with its piece.
fn step_log(mut stream: &[u8]) -> bool {
    let mut pieces = 0;
    while let Some((header, rest)) = stream.split_first_chunk() {
        let Some(chunk) = LogChunk::decode(header) else {
            return false;
        };
        assert_eq!(chunk.encode(), *header);
        assert!(chunk.length <= LogChunk::LENGTH_MAX);
        let Some(rest) = rest.get(chunk.length as usize..) else {
            break;
        };
        stream = rest;
        pieces += 1;
    }
    pieces > 0
}

// ---- messages -----------------------------------------------------------------------------------------------

/// One message between a client and the controller. Bytes: what kind, the payload.
pub fn client(bytes: &[u8]) -> bool {
    let Some((kind, payload)) = bytes.split_first() else {
        return false;
    };
    match kind {
        0 => message::<Hello>(payload).is_some_and(|hello| {
            let agreed = hello.agree();
            assert!(agreed.is_none_or(|version| (VERSION_OLDEST..=VERSION).contains(&version)));
            true
        }),
        1 => message::<HelloReply>(payload).is_some(),
        2 => message::<Request>(payload).is_some_and(|request| {
            if let Request::Submit { spec, .. } = &request {
                job_spec(spec);
            }
            true
        }),
        3 => message::<FromClient>(payload).is_some(),
        4 => message::<ToClient>(payload).is_some(),
        5 => message::<JoinRequest>(payload).is_some(),
        6 => message::<JoinReply>(payload).is_some(),
        7 => message::<Credential>(payload).is_some(),
        8 => {
            // A certificate as somebody shows it.
            let _ = hpc::net::tls::parts_of(payload);
            true
        }
        _ => false,
    }
}

/// One message between controller, agent, shepherd and the server of PMIx, or a blob that one brings. Bytes: what kind, the payload.
pub fn worker(bytes: &[u8]) -> bool {
    let Some((kind, payload)) = bytes.split_first() else {
        return false;
    };
    match kind {
        0 => message::<FromWorker>(payload).is_some_and(|message| {
            if let FromWorker::Register { inventory, .. } = &message {
                let topology = &inventory.topology;
                assert_eq!(topology.cpus_by_closeness().len(), topology.cpu_count());
                let _ = (topology.core_count(), topology.package_count());
            }
            true
        }),
        1 => message::<ToWorker>(payload).is_some(),
        2 => message::<FromSlot>(payload).is_some(),
        3 => message::<ToSlot>(payload).is_some_and(|order| {
            if let ToSlot::Launch(launch) = &order {
                job_spec(&launch.spec);
            }
            true
        }),
        4 => message::<FromShepherd>(payload).is_some(),
        5 => message::<ToShepherd>(payload).is_some(),
        6 => message::<Surroundings>(payload).is_some(),
        7 => message::<Vec<String>>(payload).is_some(),
        8 => message::<FromPmix>(payload).is_some(),
        9 => message::<ToPmix>(payload).is_some_and(|message| {
            if let ToPmix::Start(start) = &message {
                match start.check() {
                    Ok(()) => assert!(!start.local().is_empty()),
                    Err(why) => sentence(&why),
                }
            }
            true
        }),
        _ => false,
    }
}

/// A value from a payload; written again it reads the same.
fn message<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Option<T> {
    let value: T = match codec::decode(payload) {
        Ok(value) => value,
        Err(error) => {
            one_line(&error);
            return None;
        }
    };
    let frame = codec::encode(&value);
    let again: T = codec::decode(&frame[4..]).expect("what was written is read");
    assert_eq!(
        codec::encode(&again),
        frame,
        "what was read is written the same"
    );
    Some(value)
}

fn job_spec(spec: &JobSpec) {
    assert!((1..=array::MAX_INDICES).contains(&spec.count()));
    assert!(!spec.blobs().is_empty() && spec.throttle() > 0);
    let request = &spec.request;
    let _ = (request.cpus_total(), request.gpus_total());
}

// ---- scripts ------------------------------------------------------------------------------------------------

/// A batch script: its form, its directives, and the options they give.
pub fn script(bytes: &[u8]) -> bool {
    if let Err(error) = directive::check_script(bytes) {
        one_line(&error);
    }
    let directives = match directive::scan(bytes) {
        Ok(directives) => directives,
        Err(error) => {
            one_line(&error);
            return false;
        }
    };
    assert!(
        directives
            .windows(2)
            .all(|pair| pair[0].line < pair[1].line)
    );
    assert!(
        directives
            .iter()
            .all(|directive| !directive.words.is_empty())
    );
    let words: usize = directives.iter().map(|line| line.words.len()).sum();
    assert!(words <= directive::MAX_WORDS);
    // Every character kept by a backslash, the words come out as they went in.
    let mut written = String::new();
    for directive in &directives {
        written.push_str("#SBATCH");
        for word in &directive.words {
            written.push_str(if word.is_empty() { " ''" } else { " " });
            for character in word.chars() {
                written.extend(['\\', character]);
            }
        }
        written.push_str(" \n");
    }
    let again = directive::scan(written.as_bytes()).expect("quoted words are read");
    assert!(
        directives
            .iter()
            .map(|line| &line.words)
            .eq(again.iter().map(|line| &line.words))
    );
    let options = hpc::cli::read_directives(bytes);
    !directives.is_empty() && options.is_ok()
}

// ---- values -------------------------------------------------------------------------------------------------

/// A value with a grammar of its own. Bytes: which grammar, the text.
pub fn values(bytes: &[u8]) -> bool {
    let Some((kind, text)) = bytes.split_first() else {
        return false;
    };
    if let 11 | 12 = kind {
        return point_in_time(*kind == 12, text);
    }
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    match kind {
        0 => host_list(text),
        1 => host_order(text),
        2 => array_spec(text, 5_000),
        3 => array_spec(text, array::MAX_INDEX),
        4 => dependency(text),
        5 => devices(text),
        6 => signals(text),
        7 => export(text),
        8 => file_name(text),
        9 => jobs(text),
        10 => amounts(text),
        13 => cpus(text),
        14 => accepted(text.parse::<JoinLine>())
            .is_some_and(|line| line.to_string().parse().as_ref() == Ok(&line)),
        15 => {
            accepted(parse_address(text)).is_some_and(|(host, port)| !host.is_empty() && port > 0)
        }
        16 => features(text),
        17 => licenses(text),
        18 => reserved_parts(text),
        19 => booking(text),
        20 => switches(text),
        _ => false,
    }
}

/// A reason in words: one line of a bounded length.
fn sentence(why: &str) {
    assert!(!why.contains(['\n', '\r', '\0']), "{why:?}");
    assert!(why.len() < 2_000, "{why}");
}

fn features(text: &str) -> bool {
    match Constraint::parse(text) {
        Ok(constraint) => {
            let again = Constraint::parse(&constraint.to_string()).expect("what is shown is read");
            let has = |name: &str| name.len().is_multiple_of(2);
            assert_eq!(again.is_met(&has), constraint.is_met(&has));
            true
        }
        Err(why) => {
            sentence(&why);
            false
        }
    }
}

fn switches(text: &str) -> bool {
    let path = switches::parse_path(text).inspect_err(|why| sentence(why));
    if let Ok(Some(path)) = &path {
        assert!(path == text && path.split('/').count() <= 4);
    }
    let wish = SwitchWish::parse(text).inspect_err(|why| sentence(why));
    if let Ok(wish) = wish {
        assert!(wish.most > 0);
        assert_eq!(SwitchWish::parse(&wish.to_string()), Ok(wish));
    }
    path.is_ok() || wish.is_ok()
}

fn licenses(text: &str) -> bool {
    let Ok(licenses) = Wishes::parse_licenses(text).inspect_err(|why| sentence(why)) else {
        return false;
    };
    let wishes = Wishes {
        licenses,
        ..Wishes::default()
    };
    let bytes = postcard::to_stdvec(&wishes).expect("writing into memory");
    assert_eq!(postcard::from_bytes(&bytes), Ok(wishes));
    true
}

fn reserved_parts(text: &str) -> bool {
    let Ok(parts) = reservation::parse_on(text).inspect_err(|why| sentence(why)) else {
        return false;
    };
    assert_eq!(
        reservation::parse_on(&reservation::show_on(&parts)),
        Ok(parts)
    );
    true
}

fn booking(text: &str) -> bool {
    let words: Vec<String> = text.split('\x1f').map(str::to_owned).collect();
    let now = Timestamp(1_700_000_000_000);
    let read = booking::parse(&words, now, &jiff::tz::TimeZone::UTC);
    let Ok(booking) = read.inspect_err(|why| sentence(why)) else {
        return false;
    };
    assert!(booking.end > booking.start);
    true
}

/// What was read, or nothing after a look at the error.
fn accepted<T, E: Error>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| one_line(error)).ok()
}

/// An error is shown to people: one line of a bounded length, whatever the text was that it speaks of.
fn one_line(error: &impl Error) {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        let shown = error.to_string();
        assert!(!shown.contains(['\n', '\r', '\0']), "{shown:?}");
        assert!(shown.len() < 1_000, "{shown}");
        cause = error.source();
    }
}

fn host_list(text: &str) -> bool {
    let Some(names) = accepted(hostlist::parse(text)) else {
        return false;
    };
    assert!(names.len() <= hostlist::MAX_NAMES);
    if names.len() > UNFOLDED_MAX {
        return true;
    }
    let long = |name: &String| name.is_empty() || name.len() > hostlist::MAX_NAME_BYTES;
    assert!(!names.iter().any(long));
    let folded = hostlist::fold(&names);
    let again = hostlist::parse(&folded).expect("a folded list is read");
    let set: BTreeSet<&String> = names.iter().collect();
    assert_eq!(set.len(), again.len(), "{folded}");
    assert_eq!(set, again.iter().collect(), "{folded}");
    assert_eq!(hostlist::fold(&again), folded);
    true
}

/// Sorting panics where an order contradicts itself.
fn host_order(text: &str) -> bool {
    let names: Vec<&str> = text.split(',').take(16).collect();
    let order = hostlist::natural_cmp;
    for a in &names {
        for b in &names {
            assert_eq!(order(a, b), order(b, a).reverse());
            assert_eq!(order(a, b) == Ordering::Equal, a == b);
            for c in &names {
                let falls = order(a, b).is_le() && order(b, c).is_le() && order(a, c).is_gt();
                assert!(!falls, "{a:?} {b:?} {c:?}");
            }
        }
    }
    // Folding takes any names, also those that no list can spell.
    let _ = hostlist::fold(&names);
    names.len() > 1
}

fn array_spec(text: &str, max_index: u32) -> bool {
    let Some(spec) = accepted(ArraySpec::parse(text, max_index)) else {
        return false;
    };
    let count = spec.count();
    assert!((1..=array::MAX_INDICES).contains(&count));
    assert!(spec.max() <= max_index && spec.step() > 0);
    assert_eq!(
        (spec.index_at(0), spec.index_at(count - 1)),
        (spec.min(), spec.max())
    );
    for position in [0, count / 3, count / 2, count - 1] {
        let index = spec.index_at(position);
        assert_eq!(spec.position_of(index), Some(position));
    }
    let shown = spec.to_string();
    assert_eq!(ArraySpec::parse(&shown, max_index).as_ref(), Ok(&spec));
    assert_eq!(
        ArraySpec::try_from(shown.clone()).as_ref(),
        Ok(&spec),
        "{shown}"
    );
    let list = shown.split('%').next().unwrap_or_default();
    assert_eq!(spec.describe(&IndexSet::from_range(0, count)), list);
    if count as usize <= UNFOLDED_MAX {
        let indices: Vec<u32> = spec.iter().collect();
        assert_eq!(indices.len(), count as usize);
        assert!(indices.windows(2).all(|pair| pair[0] < pair[1]));
        for index in 0..=spec.max().min(5_000) {
            let place = indices.binary_search(&index).ok();
            assert_eq!(spec.position_of(index).map(|at| at as usize), place);
        }
        let some: IndexSet = (0..count).filter(|position| position % 3 != 1).collect();
        let described = ArraySpec::parse(&spec.describe(&some), max_index);
        let described: Vec<u32> = described.expect("a description is read").iter().collect();
        assert!(some.iter().map(|at| spec.index_at(at)).eq(described));
    }
    true
}

fn dependency(text: &str) -> bool {
    let Some(dependency) = accepted(Dependency::parse(text)) else {
        return false;
    };
    assert!(!dependency.terms.is_empty());
    assert_eq!(Dependency::parse(&dependency.to_string()), Ok(dependency));
    true
}

fn devices(text: &str) -> bool {
    let gpus = accepted(gres::parse_gpus(text));
    let wanted = accepted(gres::parse_gres(text));
    let understood = gpus.is_some() || wanted.is_some();
    for requests in gpus.into_iter().chain(wanted) {
        assert!(requests.iter().all(|request| request.count > 0));
        let shown: Vec<String> = requests.iter().map(ToString::to_string).collect();
        let shown = match shown.as_slice() {
            [] => "none".to_owned(),
            some => some.join(","),
        };
        assert_eq!(gres::parse_gres(&shown), Ok(requests));
    }
    understood
}

fn signals(text: &str) -> bool {
    if let Some(number) = accepted(signal::parse_signal_name(text)) {
        let name = signal::signal_name(number);
        assert_eq!(signal::parse_signal_name(&name), Ok(number));
    }
    let Some(spec) = accepted(SignalSpec::parse(text)) else {
        return false;
    };
    assert!((1..=64).contains(&spec.signal));
    assert_eq!(SignalSpec::parse(&spec.to_string()), Ok(spec));
    true
}

fn export(text: &str) -> bool {
    let Some(spec) = accepted(ExportSpec::parse(text)) else {
        return false;
    };
    assert_eq!(ExportSpec::parse(&spec.to_string()).as_ref(), Ok(&spec));
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let environment = vec![pair("PATH", "/bin"), pair("A", text), pair(text, "x")];
    let given = environment.len();
    let kept = spec.apply(environment);
    if let ExportSpec::List { assignments, .. } = &spec {
        assert!(kept.len() <= given + assignments.len());
        for (name, value) in assignments {
            let mut found = kept.iter().filter(|(kept, _)| kept == name.as_bytes());
            assert_eq!(
                found.next().map(|(_, value)| value.as_slice()),
                Some(value.as_bytes())
            );
            assert_eq!(found.next(), None);
        }
    }
    true
}

fn file_name(pattern: &str) -> bool {
    let context = FilenameContext {
        job: 42,
        array: Some(ArrayElement {
            array_job: 40,
            index: 2,
        }),
        step: Some(3),
        node_name: "n3.lab".to_owned(),
        node_index: 1,
        task_rank: 5,
        user: "ada".to_owned(),
        job_name: "train".to_owned(),
        restart_count: 1,
    };
    let valid = accepted(filename::validate(pattern)).is_some();
    let _ = filename::has_task_pattern(pattern);
    match filename::expand(pattern, &context) {
        Ok(name) => assert!(
            valid && name.len() <= filename::MAX_PATH_BYTES && !name.contains('\0'),
            "{name}"
        ),
        Err(FilenameError::TooLong { .. }) => {}
        Err(error) => {
            assert!(!valid, "{error}");
            one_line(&error);
        }
    }
    valid
}

fn jobs(text: &str) -> bool {
    if let Some(job) = accepted(JobRef::parse(text)) {
        assert_eq!(JobRef::parse(&job.to_string()), Ok(job));
    }
    let Some(selectors) = accepted(job_ref::parse_list(text)) else {
        return false;
    };
    assert!(!selectors.is_empty());
    let shown: Vec<String> = selectors.iter().map(ToString::to_string).collect();
    assert_eq!(job_ref::parse_list(&shown.join(",")), Ok(selectors));
    true
}

/// Memory and time limits.
fn amounts(text: &str) -> bool {
    let memory = accepted(size::parse_memory_mib(text));
    if let Some(mib) = memory {
        assert_eq!(size::parse_memory_mib(&size::format_mib(mib)), Ok(mib));
    }
    let limit = accepted(time::parse_time_limit(text));
    if let Some(limit) = limit {
        let shown = time::format_time_limit(limit);
        assert_eq!(time::parse_time_limit(&shown), Ok(limit), "{shown}");
        let _ = time::format_elapsed(limit.unwrap_or(0).into());
    }
    memory.is_some() || limit.is_some()
}

/// Text that names a point in time, or a format for one. Bytes: milliseconds now, which zone, the text.
fn point_in_time(is_format: bool, bytes: &[u8]) -> bool {
    let Some((now, [zone, text @ ..])) = bytes.split_first_chunk() else {
        return false;
    };
    let now = Timestamp(i64::from_le_bytes(*now));
    let utc = jiff::tz::TimeZone::UTC;
    let zone = match zone {
        0 => utc.clone(),
        1 => jiff::tz::TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone"),
        _ => jiff::tz::Offset::constant(-11).to_time_zone(),
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    if is_format {
        return accepted(now.strftime(&zone, text)).is_some();
    }
    let mut understood = false;
    for point in [
        time::parse_begin(text, now, &zone),
        time::parse_when(text, now, &zone),
    ] {
        let Some(point) = accepted(point) else {
            continue;
        };
        understood = true;
        let _ = (point.to_string(), point.to_rfc3339(&zone));
        let local = point.to_local(&utc);
        let seconds = point.seconds();
        // The years 1 to 9998, which all zones have in full.
        if (-62_135_596_800..253_370_764_800).contains(&seconds) {
            let again = time::parse_when(&local, now, &utc);
            assert_eq!(again, Ok(Timestamp::from_seconds(seconds)), "{local}");
        }
    }
    understood
}

fn cpus(text: &str) -> bool {
    let Some(set) = accepted(CpuSet::parse(text)) else {
        return false;
    };
    assert_eq!(CpuSet::parse(&set.to_string()).as_ref(), Ok(&set));
    assert_eq!(set.iter().count(), set.len() as usize);
    assert_eq!(set.is_empty(), set.first().is_none());
    let half = set.first_n(set.len() / 2);
    let rest = set.subtract(&half);
    assert!(half.is_subset(&set) && rest.is_disjoint(&half));
    assert_eq!(half.union(&rest), set);
    assert_eq!(set.intersect(&half), half);
    true
}

// ---- the store ----------------------------------------------------------------------------------------------

/// A record of the store. Bytes: which table, the record.
pub fn records(bytes: &[u8]) -> bool {
    let Some((kind, record)) = bytes.split_first() else {
        return false;
    };
    let spec = || Arc::new(plain_spec());
    let mut written = Vec::new();
    match kind {
        0 => {
            let spec = accepted(store::decode_spec(record));
            spec.is_some_and(|spec| postcard_again(&spec, store::decode_spec))
        }
        1 => accepted(store::decode_job(JobId(7), record, spec())).is_some_and(|job| {
            stored::encode_job(&mut written, &job);
            let again = store::decode_job(job.id, &written, job.spec.clone());
            assert_eq!(again.as_ref(), Ok(&job));
            true
        }),
        2 => accepted(store::decode_ended(JobId(7), record, spec())).is_some_and(|ended| {
            assert_eq!(stored::decode_ended_at(record), Ok(ended.ended));
            stored::encode_ended(&mut written, &ended);
            let again = store::decode_ended(ended.id, &written, ended.spec.clone());
            assert_eq!(again.as_ref(), Ok(&ended));
            true
        }),
        3 => {
            let outcome = accepted(store::decode_outcome(record));
            outcome.is_some_and(|outcome| postcard_again(&outcome, store::decode_outcome))
        }
        4 => accepted(store::decode_step((1, 2, 3, 4), record)).is_some_and(|step| {
            stored::encode_step(&mut written, &step);
            assert_eq!(store::decode_step((1, 2, 3, 4), &written), Ok(step));
            true
        }),
        // A kind that came later; the seeds of the others keep their numbers.
        14 => accepted(store::decode_order(StepId(4), record)).is_some_and(|order| {
            stored::encode_order(&mut written, &order);
            assert_eq!(store::decode_order(StepId(4), &written), Ok(order));
            true
        }),
        5 => accepted(store::decode_node(NodeId(1), record)).is_some_and(|mut node| {
            stored::encode_node(&mut written, &node);
            assert_eq!(store::decode_node(NodeId(1), &written).as_ref(), Ok(&node));
            node.reset_free();
            let _ = node.state();
            true
        }),
        6 => {
            let counters = accepted(store::decode_counters(record));
            counters.is_some_and(|counters| postcard_again(&counters, store::decode_counters))
        }
        7 => accepted(store::decode_blob(record)).is_some_and(|blob| {
            stored::encode_blob(&mut written, &blob);
            assert_eq!(store::decode_blob(&written), Ok(blob));
            true
        }),
        8 => element_row(record),
        9 => {
            let key = accepted(store::decode_key(record));
            key.is_some_and(|key| postcard_again(&key, store::decode_key))
        }
        10 => {
            let open = accepted(store::decode_invitation(record));
            open.is_some_and(|open| postcard_again(&open, store::decode_invitation))
        }
        11 => {
            let line = accepted(store::decode_audit(record));
            line.is_some_and(|line| postcard_again(&line, store::decode_audit))
        }
        12 => accepted(store::decode_rule(record)).is_some_and(|settings| {
            stored::encode_rule(&mut written, &settings);
            assert_eq!(store::decode_rule(&written).as_ref(), Ok(&settings));
            for noun in Noun::ALL {
                let said = [(noun, "a".to_owned(), settings.clone())];
                if let Ok(rules) = Rules::initial().with_settings(&said) {
                    assert_eq!(rules.differences(&said), []);
                    let kept = rules.settings(noun, "a").expect("it was said");
                    let kept = [(noun, "a".to_owned(), kept)];
                    assert_eq!(Rules::initial().with_settings(&kept).as_ref(), Ok(&rules));
                }
            }
            true
        }),
        13 => {
            let usage = accepted(store::decode_usage(record));
            usage.is_some_and(|usage| postcard_again(&usage, store::decode_usage))
        }
        _ => false,
    }
}

fn postcard_again<T, E>(value: &T, decode: fn(&[u8]) -> Result<T, E>) -> bool
where
    T: Serialize + PartialEq + std::fmt::Debug,
    E: Error,
{
    let written = postcard::to_extend(value, vec![1]).expect("our own values serialise");
    assert_eq!(&decode(&written).expect("what was written is read"), value);
    true
}

fn element_row(record: &[u8]) -> bool {
    // Those who read only the first columns must not trip over what the last ones hold.
    let held = stored::holds_position(record, 3);
    let mut unsuccessful = IndexSet::new();
    let collected = stored::collect_unsuccessful(record, &mut unsuccessful);
    let Some(row) = accepted(store::decode_element_row(record)) else {
        return false;
    };
    let never = row.never_started.as_ref().map(|never| &never.positions);
    let mut expected = never.cloned().unwrap_or_default();
    let holds = expected.contains(3) || row.ends.iter().any(|end| end.position == 3);
    assert_eq!(held, Ok(holds));
    for end in row
        .ends
        .iter()
        .filter(|end| end.state != JobState::Completed)
    {
        expected.insert(end.position);
    }
    assert_eq!((collected, unsuccessful), (Ok(()), expected));
    let mut written = Vec::new();
    stored::encode_element_row(&mut written, &row);
    assert_eq!(store::decode_element_row(&written), Ok(row));
    true
}

/// The spec of a job whose record is read: it lies in a table of its own.
fn plain_spec() -> JobSpec {
    use hpc::model::ids::BlobId;
    use hpc::model::job::Launch;
    JobSpec {
        name: "a".into(),
        partition: "batch".into(),
        account: Default::default(),
        qos: Default::default(),
        launch: Launch::Hold,
        surroundings: BlobId([7; 32]),
        command: Default::default(),
        request: Default::default(),
        array: None,
        dependency: None,
        kill_on_invalid_dependency: false,
        begin: None,
        time_limit_s: None,
        hold: false,
        requeue: false,
        nice: 0,
        signal: None,
        work_dir: "/".into(),
        output: None,
        error: None,
        input: None,
        open_mode: Default::default(),
        kill_wait_s: 30,
        comment: None,
        submit_host: Default::default(),
    }
}

// ---- the shepherd's journal ---------------------------------------------------------------------------------

/// A journal. Bytes: 0 and a file as it lies on disk, or 1 and payloads that are given lengths and checksums here,
/// since a fuzzer does not guess those.
pub fn journal(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, file)) => Replay::of(file).is_some_and(|replay| replayed(&replay)),
        Some((1, mut rest)) => {
            let mut file = Vec::new();
            let mut first = None;
            while let Ok((record, behind)) = postcard::take_from_bytes::<Record>(rest) {
                journal::encode(&record, &mut file);
                first.get_or_insert(record);
                rest = behind;
            }
            let replay = Replay::of(&file);
            let opened = match first {
                Some(Record::Opened(opened)) => Some(*opened),
                _ => None,
            };
            assert_eq!(
                replay.as_ref().map(|replay| &replay.opened),
                opened.as_ref()
            );
            // A last record cut short is as if it had not been written.
            let _ = Replay::of(&file[..file.len() - file.len().min(1)]);
            replay.is_some_and(|replay| replayed(&replay))
        }
        _ => false,
    }
}

fn replayed(replay: &Replay) -> bool {
    let reports = replay.reports(Timestamp(1_790_000_000_000), true);
    let lost = reports.last();
    assert!(
        matches!(lost, Some(FromSlot::Lost { ends, .. }) if ends.len() == usize::from(replay.current.is_some()))
    );
    for report in &reports {
        let payload = codec::encode(report);
        assert_eq!(
            codec::decode::<FromSlot>(&payload[4..]).ok().as_ref(),
            Some(report)
        );
    }
    let _ = replay.acknowledge_all(replay.report);
    true
}

// ---- MPI libraries ------------------------------------------------------------------------------------------

/// What ranks say to the PMI server of their node, a part of a fence, or a rank's greeting. Bytes: which, and for the first
/// the length of a piece and utterances: whose and what it is, its length, its bytes.
pub fn pmi(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, [piece, said @ ..])) => {
            let whole = conversation(said, usize::MAX);
            let cut = conversation(said, usize::from(*piece).max(1));
            assert_eq!(whole, cut, "a cut conversation gives the same acts");
            let begins = |act: &PmiAct| matches!(act, PmiAct::Initialised { .. });
            whole.iter().any(begins)
        }
        Some((1, part)) => {
            let mut length = 0;
            let mut well = true;
            for pair in pmi::pairs(part) {
                match pair {
                    Ok((key, value)) => {
                        assert!((1..=pmi::KEY_MAX).contains(&key.len()));
                        assert!(value.len() <= pmi::VALUE_MAX);
                        length += 3 + key.len() + value.len();
                    }
                    Err(why) => {
                        assert!(!why.contains('\n') && why.len() < 200);
                        well = false;
                    }
                }
            }
            assert_eq!(well, length == part.len());
            well && !part.is_empty()
        }
        Some((2, line)) => match pmi::port_hello(line) {
            Ok(_) => true,
            Err(why) => {
                assert!(!why.contains('\n') && why.len() < 400);
                false
            }
        },
        _ => false,
    }
}

/// Plays utterances of two ranks to a server, whose fences come back when an utterance says so.
fn conversation(mut said: &[u8], piece: usize) -> Vec<PmiAct> {
    let mut server = PmiServer::new(PmiFacts {
        kvs_name: "k".to_owned(),
        size: 2,
        ranks: vec![0, 1],
        app_numbers: vec![0, 1],
        universe: 4,
        mapping: pmi::process_mapping(&[0, 0]),
        ..PmiFacts::default()
    });
    let mut acts = Vec::new();
    let mut epoch_next = 0;
    while let [kind, length, rest @ ..] = said {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*length)));
        said = rest;
        let local = u32::from(kind & 1);
        let before = acts.len();
        match kind >> 1 {
            0 => {
                for piece in bytes.chunks(piece) {
                    server.receive(local, piece, &mut acts);
                }
            }
            1 => server.closed(local, &mut acts),
            2 => server.fenced(epoch_next, &[bytes.to_vec()], &mut acts),
            3 => server.named(u64::from(*length), NameAnswer::NotFound, &mut acts),
            5 => server.spawned(u64::from(*length), Ok("k2"), &mut acts),
            6 => server.spawned(u64::from(*length), Err("no"), &mut acts),
            4 => {
                let port = String::from_utf8_lossy(bytes).into_owned();
                server.named(0, NameAnswer::Found(port), &mut acts);
            }
            _ => {}
        }
        let mut answered = 0;
        for act in &acts[before..] {
            match act {
                PmiAct::Answer { local, bytes } => {
                    assert!(*local < 2 && !bytes.is_empty());
                    answered += bytes.len();
                }
                PmiAct::Fence { epoch, fresh } => {
                    assert!(pmi::pairs(fresh).all(|pair| pair.is_ok()));
                    epoch_next = *epoch;
                }
                PmiAct::Broken { text, .. } | PmiAct::Abort { text, .. } => {
                    assert!(
                        !text.contains('\n') && text.chars().count() <= 600,
                        "{text}"
                    );
                }
                PmiAct::Spawn { request, .. } => assert!(request.size() > 0),
                PmiAct::Name { .. }
                | PmiAct::Initialised { .. }
                | PmiAct::Finalised { .. }
                | PmiAct::Vanished { .. } => {}
            }
        }
        // The shortest request takes some ten bytes, and the longest answers are a value and some words.
        assert!(answered <= (bytes.len() + 100) * 300, "{answered}");
    }
    acts
}

// ---- traces -------------------------------------------------------------------------------------------------

/// A trace; a short one is replayed under every policy. Bytes: processors, the text.
pub fn trace(bytes: &[u8]) -> bool {
    let [processors, text @ ..] = bytes else {
        return false;
    };
    let text = String::from_utf8_lossy(text);
    let trace = match Trace::parse(&text, Some(u32::from(*processors))) {
        Ok(trace) => trace,
        Err(error) => {
            let _ = error.to_string();
            return false;
        }
    };
    if trace.jobs.len() > 50 {
        return true;
    }
    for rule in [
        Rule::Fcfs,
        Rule::Sjf,
        Rule::Easy,
        Rule::EasySjbf,
        Rule::EasyPredicted,
        Rule::Conservative,
    ] {
        let starts = replay(&trace, rule).starts;
        assert_eq!(starts.len(), trace.jobs.len());
        let running: Vec<_> = trace.jobs.iter().zip(&starts).collect();
        for (job, start) in &running {
            assert!(**start >= job.submit, "{rule:?}: {job:?} starts at {start}");
            // What is in use grows at starts alone.
            let used: u64 = running
                .iter()
                .filter(|(other, at)| **at <= **start && **start < **at + other.run)
                .map(|(other, _)| u64::from(other.processors))
                .sum();
            assert!(
                used <= u64::from(trace.processors),
                "{rule:?}: {used} in use"
            );
        }
    }
    true
}

/// A trace of a GPU cluster; a short one is placed by every rule. Bytes: nodes, a line `---`, tasks.
pub fn gpu_trace(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((nodes, tasks)) = text.split_once("---\n") else {
        return false;
    };
    let mut lines = GpuLines::default();
    let read = nodes
        .lines()
        .try_for_each(|line| lines.push_node(line))
        .and_then(|()| tasks.lines().try_for_each(|line| lines.push_task(line)))
        .and_then(|()| lines.finish());
    let trace = match read {
        Ok(trace) => trace,
        Err(error) => {
            let _ = error.to_string();
            return false;
        }
    };
    if trace.nodes.len() > 50 || trace.tasks.len() > 50 {
        return true;
    }
    let mix = Mix::of(&trace.tasks);
    for rule in [
        packing::Rule::FirstFit,
        packing::Rule::BestFit,
        packing::Rule::DotProduct,
        packing::Rule::Fragmentation,
    ] {
        let mut packer = Packer::new(rule, trace.nodes.clone(), &mix);
        for task in trace.tasks.iter().chain(&trace.tasks) {
            let before = packer.nodes().to_vec();
            let plain = Measure::new(rule, &trace.nodes, &mix).place(&before, task);
            let placement = packer.place(task);
            assert_eq!(
                placement, plain,
                "{rule:?}: what is remembered is what is so"
            );
            let milli = |nodes: &[Node]| nodes.iter().map(Node::gpu_milli).sum::<u64>();
            let given = placement.map_or(0, |_| task.gpus.milli());
            assert_eq!(milli(packer.nodes()) + given, milli(&before), "{rule:?}");
        }
    }
    true
}

// ---- configuration ------------------------------------------------------------------------------------------

/// A configuration file.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(error) => {
            // Several lines, which point at the place.
            let _ = error.to_string();
            return false;
        }
    };
    let Config {
        cluster_name,
        node_silent_after_s,
        node_timeout_s,
        lease_s,
        gang_start_s,
        jobs_max,
        array_index_max,
        history_days,
        store_cache_mib,
        certificate_life_s,
        allow_root_jobs,
        policy,
        priority,
        usage_half_life_s,
        reserve_cpus,
        reserve_memory_mib,
        users,
        partition: _,
        account: _,
        user: _,
        qos: _,
        license: _,
        node: _,
    } = &config;
    let users: Vec<String> = users
        .entries()
        .map(|(user, account)| format!("\"{user}\" = \"{account}\""))
        .collect();
    let users = users.join(", ");
    let written = format!(
        "cluster_name = \"{cluster_name}\"\nnode_silent_after_s = {node_silent_after_s}\n\
         node_timeout_s = {node_timeout_s}\nlease_s = {lease_s}\ngang_start_s = {gang_start_s}\njobs_max = {jobs_max}\n\
         array_index_max = {array_index_max}\nhistory_days = {history_days}\nstore_cache_mib = {store_cache_mib}\n\
         certificate_life_s = {certificate_life_s}\nallow_root_jobs = {allow_root_jobs}\nreserve_cpus = {reserve_cpus}\n\
         reserve_memory_mib = {reserve_memory_mib}\nusers = {{ {users} }}\n"
    );
    let policy = match policy {
        Policy::Fcfs => "fcfs",
        Policy::Easy => "easy",
        Policy::EasySjbf => "easy-sjbf",
        Policy::Conservative => "conservative",
    };
    let Priority {
        age,
        max_age_s,
        fair_share,
        partition,
        qos,
        size,
        favour_small,
        cpus,
        gpus,
    } = priority;
    let mut written = format!(
        "{written}policy = \"{policy}\"\nusage_half_life_s = {usage_half_life_s}\n\
         priority = {{ age = {age}, max_age_s = {max_age_s}, fair_share = {fair_share}, partition = {partition}, \
         qos = {qos}, size = {size}, favour_small = {favour_small}, cpus = {cpus}, gpus = {gpus} }}\n"
    );
    for (noun, name, settings) in config.rules() {
        written.push_str(&format!("[{noun}.\"{name}\"]\n"));
        for (key, value) in settings {
            written.push_str(&format!("{key} = \"{}\"\n", escaped(&value)));
        }
    }
    let again = Config::parse(&written).expect("what was written is read");
    assert_eq!(again, config);
    let _ = Rules::initial().with_settings(&config.rules());
    let _ = Rules::initial().differences(&config.rules());
    true
}

/// Between the quotes of a text in TOML.
fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            control if control.is_control() => {
                shown.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => shown.push(other),
        }
    }
    shown
}
