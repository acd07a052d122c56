//! Keys with values: ours written down for the library, and the library's read.

use super::layout::{
    KEY_SIZE, NSPACE_SIZE, RANK_LAST, RANK_WILDCARD, RawArray, RawData, RawFound, RawInfo,
    RawProcess, RawValue, kind,
};
use crate::model::bounded::{FEW_ITEMS_MAX, ITEMS_MAX};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

/// Namespaces whose processes meet at once.
const NSPACES_MAX: usize = FEW_ITEMS_MAX;

/// A value for the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A text; what follows a zero byte is not passed on.
    Text(String),
    /// A small number.
    Number16(u16),
    /// A number.
    Number32(u32),
    /// A rank.
    Rank(u32),
    /// A process.
    Process(Process),
    /// Several keys with values.
    Infos(Vec<Info>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The key, in the library's spelling (`pmix.job.size`).
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

impl Info {
    /// A key with a value.
    #[must_use]
    pub fn new(key: &'static str, value: Value) -> Self {
        Info { key, value }
    }

    /// A key with a text.
    #[must_use]
    pub fn text(key: &'static str, text: impl Into<String>) -> Self {
        Info::new(key, Value::Text(text.into()))
    }
}

/// A process by namespace and rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its namespace.
    pub nspace: String,
    /// Its rank.
    pub rank: u32,
}

impl Process {
    pub(super) fn raw(&self) -> RawProcess {
        RawProcess {
            nspace: fixed::<NSPACE_SIZE>(&self.nspace),
            rank: self.rank,
        }
    }
}

/// The text in a field of its own, cut to fit.
pub(super) fn fixed<const SIZE: usize>(text: &str) -> [c_char; SIZE] {
    let mut field = [0; SIZE];
    for (place, byte) in field[..SIZE - 1].iter_mut().zip(text.bytes()) {
        *place = byte.cast_signed();
    }
    field
}

/// What the library wrote into such a field.
pub(super) fn unfixed(field: &[c_char]) -> String {
    let bytes = field.iter().take_while(|&&byte| byte != 0);
    let bytes: Vec<u8> = bytes.map(|byte| byte.cast_unsigned()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).expect("cut before the first zero byte")
}

/// Infos as the library wants them, with all that they point to. Nothing moves while this lives.
pub(super) struct Lowered {
    infos: Vec<RawInfo>,
    texts: Vec<CString>,
    processes: Vec<*mut RawProcess>,
    arrays: Vec<*mut RawArray>,
    nested: Vec<Lowered>,
}

impl Lowered {
    pub(super) fn new(infos: &[Info]) -> Self {
        let mut lowered = Lowered {
            infos: Vec::with_capacity(infos.len()),
            texts: Vec::new(),
            processes: Vec::new(),
            arrays: Vec::new(),
            nested: Vec::new(),
        };
        for info in infos {
            let value = lowered.value(&info.value);
            lowered.infos.push(RawInfo {
                key: fixed::<KEY_SIZE>(info.key),
                flags: 0,
                value,
            });
        }
        lowered
    }

    fn value(&mut self, value: &Value) -> RawValue {
        // Whatever is not written is zero, also for those who compare whole values.
        let mut data = RawData { whole: [0; 3] };
        let kind = match value {
            Value::Flag(flag) => {
                data.flag = *flag;
                kind::FLAG
            }
            Value::Text(text) => {
                let text = c_text(text);
                data.text = text.as_ptr().cast_mut();
                self.texts.push(text);
                kind::TEXT
            }
            Value::Number16(number) => {
                data.number16 = *number;
                kind::NUMBER16
            }
            Value::Number32(number) => {
                data.number32 = *number;
                kind::NUMBER32
            }
            Value::Rank(rank) => {
                data.number32 = *rank;
                kind::RANK
            }
            Value::Process(process) => {
                data.process = Box::into_raw(Box::new(process.raw()));
                // SAFETY: just written.
                self.processes.push(unsafe { data.process });
                kind::PROCESS
            }
            Value::Infos(infos) => {
                let mut nested = Lowered::new(infos);
                let array = Box::into_raw(Box::new(RawArray {
                    kind: kind::INFO,
                    size: nested.count(),
                    array: nested.pointer().cast::<c_void>(),
                }));
                data.array = array;
                self.arrays.push(array);
                self.nested.push(nested);
                kind::ARRAY
            }
        };
        RawValue { kind, data }
    }

    pub(super) fn pointer(&mut self) -> *mut RawInfo {
        self.infos.as_mut_ptr()
    }

    pub(super) fn count(&self) -> usize {
        self.infos.len()
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        for process in self.processes.drain(..) {
            // SAFETY: made by Box::into_raw above, and freed here alone.
            drop(unsafe { Box::from_raw(process) });
        }
        for array in self.arrays.drain(..) {
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(array) });
        }
    }
}

/// A published value: a text, bytes or a plain number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its name.
    pub key: String,
    /// The library's number of its type.
    pub kind: u16,
    /// The value: a text without its end, bytes, or a number as it lies in memory.
    pub bytes: Vec<u8>,
}

/// What a lookup answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who published it.
    pub process: Process,
    /// What.
    pub entry: Published,
}

/// A slice of what the library passes.
///
/// # Safety
/// `pointer` is null or points to `count` values that stay as they are for `'a`.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> &'a [T] {
    if pointer.is_null() || count == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(pointer, count) }
}

/// A text of the library's; null is an empty one.
///
/// # Safety
/// `pointer` is null or points to a text that ends.
pub(super) unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_string_lossy().into_owned()
}

/// A null-terminated list of texts, up to so many.
///
/// # Safety
/// `list` is null or points to such a list.
pub(super) unsafe fn texts(mut list: *const *mut c_char, most: usize) -> Vec<String> {
    let mut all = Vec::new();
    // SAFETY: as the caller promises; the list is left at its null.
    while !list.is_null() && !unsafe { *list }.is_null() && all.len() < most {
        // SAFETY: a text of the list.
        all.push(unsafe { text(*list) });
        // SAFETY: the list goes on as long as it has shown no null.
        list = unsafe { list.add(1) };
    }
    all
}

/// The namespace of these processes, if they have but one, and their ranks in order; no ranks = all.
pub(super) fn one_nspace(processes: &[RawProcess]) -> Option<(String, Vec<u32>)> {
    let first = unfixed(&processes.first()?.nspace);
    if processes
        .iter()
        .any(|process| unfixed(&process.nspace) != first)
    {
        return None;
    }
    let mut ranks: Vec<u32> = processes.iter().map(|process| process.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    if ranks.contains(&RANK_WILDCARD) {
        return Some((first, Vec::new()));
    }
    ranks
        .last()
        .is_some_and(|&last| last < RANK_LAST)
        .then_some((first, ranks))
}

/// Processes of one namespace, in order; no ranks = all.
pub type Members = (String, Vec<u32>);

/// These processes by their namespaces, in order of these. `None` = one is of none, or no rank, or there are too many.
pub(super) fn by_nspace(processes: &[RawProcess]) -> Option<Vec<Members>> {
    let mut apart: BTreeMap<String, Vec<RawProcess>> = BTreeMap::new();
    for process in processes {
        let of = apart.entry(unfixed(&process.nspace)).or_default();
        of.push(*process);
    }
    if apart.is_empty() || apart.len() > NSPACES_MAX || apart.contains_key("") {
        return None;
    }
    let members = apart.values().map(|of| one_nspace(of));
    let members = members.collect::<Option<Vec<Members>>>()?;
    let fits = members.iter().all(|(_, ranks)| ranks.len() <= ITEMS_MAX);
    fits.then_some(members)
}

/// What we look at among a call's infos.
#[derive(Debug, Default)]
pub(super) struct Directives {
    pub(super) timeout_s: Option<u32>,
    pub(super) wait: bool,
    pub(super) range: Option<u8>,
    pub(super) persistence: Option<u8>,
}

pub(super) fn directives(infos: &[RawInfo]) -> Directives {
    let mut seen = Directives::default();
    for info in infos {
        let value = &info.value;
        match unfixed(&info.key).as_str() {
            "pmix.timeout" => seen.timeout_s = whole(value).filter(|&seconds| seconds > 0),
            // The number that has to be there at least; 0 = all. A client may also send it as a flag.
            "pmix.wait" => seen.wait = value.kind != kind::FLAG || small(value) != 0,
            "pmix.range" => seen.range = Some(small(value)),
            "pmix.persist" => seen.persistence = Some(small(value)),
            _ => {}
        }
    }
    seen
}

fn small(value: &RawValue) -> u8 {
    // SAFETY: every bit pattern is a u8.
    unsafe { value.data.byte }
}

fn whole(value: &RawValue) -> Option<u32> {
    match value.kind {
        // SAFETY: the type says what is in it, and every bit pattern is a number.
        kind::INT | kind::STATUS => u32::try_from(unsafe { value.data.int }).ok(),
        // SAFETY: as above.
        kind::NUMBER32 | kind::SIZE => Some(unsafe { value.data.number32 }),
        _ => None,
    }
}

/// The values in a call to publish: whatever is not about the call itself. `None` = one is of a type that cannot be
/// passed on.
///
/// # Safety
/// The infos are the library's, so that their types say what they hold.
pub(super) unsafe fn published(infos: &[RawInfo], most: usize) -> Option<Vec<Published>> {
    let mut entries = Vec::new();
    for info in infos {
        let key = unfixed(&info.key);
        if key.starts_with("pmix.") {
            continue;
        }
        // SAFETY: as the caller promises.
        let bytes = unsafe { bytes_of(&info.value, most) }?;
        entries.push(Published {
            key,
            kind: info.value.kind,
            bytes,
        });
    }
    Some(entries)
}

/// The texts in a call to log: whether the first is for standard error, and all for that stream, cut to so many bytes.
///
/// # Safety
/// As for [`published`].
pub(super) unsafe fn words(infos: &[RawInfo], most: usize) -> Option<(bool, String)> {
    let mut stream = None;
    let mut said = String::new();
    for info in infos {
        let error = match unfixed(&info.key).as_str() {
            "pmix.log.stderr" => true,
            "pmix.log.stdout" => false,
            _ => continue,
        };
        if info.value.kind == kind::TEXT && *stream.get_or_insert(error) == error {
            // SAFETY: the type says that this is a text.
            said.push_str(&unsafe { text(info.value.data.text) });
        }
    }
    let mut end = said.len().min(most);
    while !said.is_char_boundary(end) {
        end -= 1;
    }
    said.truncate(end);
    stream.map(|error| (error, said))
}

/// How long a plain number of this type is.
fn number_length(number: u16) -> Option<usize> {
    // Flag, byte, (text), size, pid, int and its sizes, unsigned and its sizes, float, double.
    const LENGTHS: [usize; 18] = [0, 1, 1, 0, 8, 4, 4, 1, 2, 4, 8, 4, 1, 2, 4, 8, 4, 8];
    let known = (kind::FLAG..=kind::NUMBER_LAST).contains(&number) && number != kind::TEXT;
    match number {
        kind::STATUS | kind::RANK => Some(4),
        _ if known => LENGTHS.get(usize::from(number)).copied(),
        _ => None,
    }
}

/// # Safety
/// The value is what its type says.
unsafe fn bytes_of(value: &RawValue, most: usize) -> Option<Vec<u8>> {
    let bytes = match value.kind {
        // SAFETY: the type says that this is a text.
        kind::TEXT if unsafe { value.data.text }.is_null() => Vec::new(),
        // SAFETY: as above.
        kind::TEXT => unsafe { CStr::from_ptr(value.data.text) }
            .to_bytes()
            .to_vec(),
        kind::BYTES => {
            // SAFETY: the type says that these are bytes.
            let object = unsafe { value.data.bytes };
            // SAFETY: as above.
            unsafe { slice(object.bytes.cast::<u8>(), object.size) }.to_vec()
        }
        number => {
            // SAFETY: every bit pattern is a number.
            let whole = unsafe { value.data.whole };
            whole[0].to_ne_bytes()[..number_length(number)?].to_vec()
        }
    };
    (bytes.len() <= most).then_some(bytes)
}

/// What was found, as the library wants it; lives as [`Lowered`] does.
pub(super) struct LoweredFound {
    found: Vec<RawFound>,
    /// What the values point to, each with a zero byte behind it.
    _bytes: Vec<Vec<u8>>,
}

impl LoweredFound {
    pub(super) fn new(found: &[Found]) -> Self {
        let mut kept = Vec::new();
        let raw = found.iter().map(|found| RawFound {
            process: found.process.raw(),
            key: fixed::<KEY_SIZE>(&found.entry.key),
            value: raw_published(&found.entry, &mut kept),
        });
        LoweredFound {
            found: raw.collect(),
            _bytes: kept,
        }
    }

    pub(super) fn pointer(&mut self) -> *mut RawFound {
        if self.found.is_empty() {
            ptr::null_mut()
        } else {
            self.found.as_mut_ptr()
        }
    }

    pub(super) fn count(&self) -> usize {
        self.found.len()
    }
}

/// What comes back from elsewhere need not be what was sent: a number of an odd length becomes nothing.
fn raw_published(entry: &Published, kept: &mut Vec<Vec<u8>>) -> RawValue {
    let mut data = RawData { whole: [0; 3] };
    let mut keep = |bytes: &[u8]| -> *mut c_char {
        let mut bytes = bytes.to_vec();
        bytes.push(0);
        let pointer = bytes.as_mut_ptr().cast::<c_char>();
        kept.push(bytes);
        pointer
    };
    match entry.kind {
        kind::TEXT => data.text = keep(&entry.bytes),
        kind::BYTES => {
            data.bytes = super::layout::RawBytes {
                bytes: keep(&entry.bytes),
                size: entry.bytes.len(),
            }
        }
        number if number_length(number) == Some(entry.bytes.len()) => {
            let mut word = [0; 8];
            word[..entry.bytes.len()].copy_from_slice(&entry.bytes);
            data.whole = [u64::from_ne_bytes(word), 0, 0];
        }
        _ => return RawValue { kind: 0, data },
    }
    RawValue {
        kind: entry.kind,
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infos_are_written_as_the_library_reads_them() {
        let infos = [
            Info::text("pmix.hname", "ws1"),
            Info::new("pmix.job.size", Value::Number32(4)),
            Info::new("pmix.tdir.rmclean", Value::Flag(true)),
            Info::new(
                "pmix.evproc",
                Value::Process(Process {
                    nspace: "job".to_owned(),
                    rank: 3,
                }),
            ),
            Info::new(
                "pmix.pdata",
                Value::Infos(vec![
                    Info::new("pmix.rank", Value::Rank(7)),
                    Info::new("pmix.lrank", Value::Number16(1)),
                ]),
            ),
        ];
        let mut lowered = Lowered::new(&infos);
        // SAFETY: read as written: so many infos, each of the type that it says.
        unsafe {
            let raw = slice(lowered.pointer(), lowered.count());
            let kinds: Vec<u16> = raw.iter().map(|info| info.value.kind).collect();
            assert_eq!(kinds, [3, 14, 1, 22, 39]);
            assert_eq!(unfixed(&raw[0].key), "pmix.hname");
            assert_eq!(text(raw[0].value.data.text), "ws1");
            assert_eq!(raw[1].value.data.number32, 4);
            assert!(raw[2].value.data.flag);
            let process = *raw[3].value.data.process;
            assert_eq!(
                (unfixed(&process.nspace).as_str(), process.rank),
                ("job", 3)
            );
            let array = *raw[4].value.data.array;
            let nested = slice(array.array.cast::<RawInfo>(), array.size);
            assert_eq!((array.kind, array.size), (24, 2));
            assert_eq!(nested[0].value.kind, 40);
            assert_eq!(nested[0].value.data.number32, 7);
            assert_eq!(nested[1].value.data.number16, 1);
        }
    }

    #[test]
    fn what_is_published_comes_back_and_odd_values_do_not() {
        let entry = |kind, bytes: &[u8]| Published {
            key: "name".to_owned(),
            kind,
            bytes: bytes.to_vec(),
        };
        for entry in [
            entry(kind::TEXT, b"port"),
            entry(kind::TEXT, b""),
            entry(kind::BYTES, b"a\0b"),
            entry(kind::NUMBER32, &[1, 2, 3, 4]),
            entry(kind::FLAG, &[1]),
        ] {
            let process = Process {
                nspace: "job".to_owned(),
                rank: 1,
            };
            let mut lowered = LoweredFound::new(&[Found {
                process,
                entry: entry.clone(),
            }]);
            assert_eq!(lowered.count(), 1);
            // SAFETY: one answer, of the type that it says.
            let raw = unsafe { &*lowered.pointer() };
            let info = RawInfo {
                key: raw.key,
                flags: 0,
                value: raw.value,
            };
            // SAFETY: as above.
            let again = unsafe { published(&[info], 100) };
            assert_eq!(again, Some(vec![entry]));
            // SAFETY: as above.
            let too_long = unsafe { published(&[info], 0) };
            assert!(too_long.is_none_or(|entries| entries[0].bytes.is_empty()));
        }
        let mut kept = Vec::new();
        for odd in [entry(kind::NUMBER32, b"12345"), entry(kind::ARRAY, b"")] {
            assert_eq!(raw_published(&odd, &mut kept).kind, 0);
        }
    }

    #[test]
    fn processes_of_one_namespace_are_its_ranks_or_all() {
        let process = |nspace: &str, rank| {
            Process {
                nspace: nspace.to_owned(),
                rank,
            }
            .raw()
        };
        let all = process("job", RANK_WILDCARD);
        assert_eq!(one_nspace(&[all]), Some(("job".to_owned(), Vec::new())));
        let two = [process("job", 5), process("job", 1), process("job", 5)];
        assert_eq!(one_nspace(&two), Some(("job".to_owned(), vec![1, 5])));
        assert_eq!(one_nspace(&[process("a", 0), process("b", 0)]), None);
        assert_eq!(one_nspace(&[process("job", u32::MAX - 2)]), None);
        assert_eq!(one_nspace(&[]), None);
        let apart = by_nspace(&[process("b", 4), all, process("b", 0)]);
        let wanted = vec![("b".to_owned(), vec![0, 4]), ("job".to_owned(), Vec::new())];
        assert_eq!(apart, Some(wanted));
        assert_eq!(
            by_nspace(&[process("a", 0), process("b", u32::MAX - 2)]),
            None
        );
        assert_eq!(by_nspace(&[]), None);
    }

    #[test]
    fn long_texts_are_cut_to_their_field() {
        let field = fixed::<8>("123456789");
        assert_eq!(unfixed(&field), "1234567");
        assert_eq!(c_text("a\0b").as_bytes(), b"a");
    }
}
