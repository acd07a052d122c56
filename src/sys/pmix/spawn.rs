//! Processes that a rank asks for: what the library passes, in our words, and what it is answered with.

use super::layout::{NSPACE_SIZE, OnSpawned, RawApp, RawInfo, RawProcess, SUCCESS, kind};
use super::upcalls::{Context, Upcall, process, queue, while_open};
use super::value::{Process, fixed, slice, unfixed};
use crate::model::bounded::{FEW_ITEMS_MAX, ITEMS_MAX};
use crate::model::spawn::{BYTES_MAX, COMMANDS_MAX, SpawnCommand, SpawnRequest};
use crate::wire::pmix::status;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

/// A rank asks for further processes.
#[derive(Debug)]
pub struct SpawnUpcall {
    /// Who.
    pub process: Process,
    /// What is to run.
    pub request: SpawnRequest,
    /// Takes the name of their namespace.
    pub reply: SpawnReply,
}

/// Answers with the namespace of new processes, once.
#[derive(Debug)]
#[must_use = "a rank waits for it"]
pub struct SpawnReply {
    call: Option<OnSpawned>,
    context: Context,
}

impl SpawnReply {
    /// Their namespace, or a status.
    pub fn answer(self, outcome: Result<&str, i32>) {
        let Some(call) = self.call else { return };
        let mut name = fixed::<NSPACE_SIZE>(outcome.unwrap_or_default());
        let (status, name) = match outcome {
            Ok(_) => (SUCCESS, name.as_mut_ptr()),
            Err(status) => (status, ptr::null_mut()),
        };
        while_open(|_| {
            // SAFETY: the library waits for one call with its own data, which this value made possible once, and copies
            // the name before it returns.
            unsafe { call(status, name, self.context.0) };
        });
    }
}

pub(super) unsafe extern "C" fn on_spawn(
    who: *const RawProcess,
    _infos: *const RawInfo,
    _info_count: usize,
    apps: *const RawApp,
    app_count: usize,
    call: Option<OnSpawned>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the library passes the client's name and so many commands, for the time of the call.
    let (who, apps) = unsafe { (process(who), slice(apps, app_count)) };
    let Some(process) = who else {
        return status::BAD_PARAMETER;
    };
    if apps.is_empty() || apps.len() > COMMANDS_MAX {
        return status::BAD_PARAMETER;
    }
    // SAFETY: the commands are the library's.
    let commands = apps.iter().map(|app| unsafe { command(app) });
    let Some(commands) = commands.collect::<Option<Vec<_>>>() else {
        return status::BAD_PARAMETER;
    };
    let request = SpawnRequest {
        commands,
        pairs: Vec::new(),
    };
    if request.weight() > BYTES_MAX {
        return status::OUT_OF_RESOURCE;
    }
    queue(Upcall::Spawn(SpawnUpcall {
        process,
        request,
        reply: SpawnReply {
            call,
            context: Context(context),
        },
    }))
}

/// One command; `None` = it makes no sense, or a word of it is no UTF-8.
///
/// # Safety
/// It is the library's: its texts end, its lists end with a null, and its infos are what their types say.
unsafe fn command(app: &RawApp) -> Option<SpawnCommand> {
    // SAFETY: as the caller promises.
    let (program, words, variables, place) = unsafe {
        (
            exact(app.command),
            exact_list(app.arguments)?,
            exact_list(app.environment)?,
            exact(app.directory),
        )
    };
    let program = program.filter(|program| !program.is_empty());
    let program = program.or_else(|| words.first().cloned())?;
    let ranks = u32::try_from(app.ranks).ok().filter(|ranks| *ranks > 0)?;
    let mut command = SpawnCommand {
        ranks,
        // The first word is what the program is called, without its directory where the library has added it.
        arguments: std::iter::once(program)
            .chain(words.into_iter().skip(1))
            .collect(),
        directory: place.filter(|place| !place.is_empty()),
        environment: variables
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .filter(|(name, _)| !says_where_servers_are(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..SpawnCommand::default()
    };
    // SAFETY: as the caller promises.
    for info in unsafe { slice(app.infos, app.info_count) } {
        if info.value.kind != kind::TEXT {
            continue;
        }
        // SAFETY: the type says that this is a text.
        let value = unsafe { exact(info.value.data.text) }.unwrap_or_default();
        match unfixed(&info.key).as_str() {
            "pmix.wdir" => {
                let here = command.directory.unwrap_or_default();
                let there = Path::new(&here).join(value);
                command.directory = there.to_str().map(str::to_owned);
            }
            "pmix.host" => {
                let hosts = value.split([',', ' ']).filter(|host| !host.is_empty());
                command.hosts = hosts.map(str::to_owned).collect();
            }
            // An implementation takes of these what it knows.
            _ => {}
        }
    }
    let lists = [command.environment.len(), command.hosts.len()];
    let fits = lists.iter().all(|length| *length <= FEW_ITEMS_MAX);
    fits.then_some(command)
}

/// Variables of a rank's own that its children must not have.
fn says_where_servers_are(name: &str) -> bool {
    name.starts_with("PMI_") || (name.starts_with("PMIX_") && !name.starts_with("PMIX_MCA_"))
}

/// # Safety
/// `pointer` is null or points to a text that ends.
unsafe fn exact(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().ok().map(str::to_owned)
}

/// A list of texts; `None` = it is too long, or one is no UTF-8.
///
/// # Safety
/// `list` is null or points to texts that end, with a null after the last.
unsafe fn exact_list(mut list: *const *mut c_char) -> Option<Vec<String>> {
    let mut all = Vec::new();
    // SAFETY: as the caller promises; the list is left at its null.
    while !list.is_null() && !unsafe { *list }.is_null() {
        if all.len() == ITEMS_MAX {
            return None;
        }
        // SAFETY: a text of the list.
        all.push(unsafe { exact(*list) }?);
        // SAFETY: the list goes on as long as it has shown no null.
        list = unsafe { list.add(1) };
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::super::value::{Info, Lowered};
    use super::*;
    use std::ffi::CString;

    /// What these texts are in our words, with these infos.
    fn read(
        words: &[&[u8]],
        variables: &[&[u8]],
        ranks: i32,
        infos: &[Info],
    ) -> Option<SpawnCommand> {
        let texts = |list: &[&[u8]]| -> Vec<CString> {
            list.iter()
                .map(|word| CString::new(*word).unwrap())
                .collect()
        };
        let (words, variables) = (texts(words), texts(variables));
        let pointers = |list: &[CString]| -> Vec<*mut c_char> {
            let all = list.iter().map(|text| text.as_ptr().cast_mut());
            all.chain([ptr::null_mut()]).collect()
        };
        let (word_list, variable_list) = (pointers(&words), pointers(&variables));
        let mut lowered = Lowered::new(infos);
        let app = RawApp {
            command: words[0].as_ptr().cast_mut(),
            arguments: word_list.as_ptr().cast_mut(),
            environment: variable_list.as_ptr().cast_mut(),
            directory: c"/here".as_ptr().cast_mut(),
            ranks,
            infos: lowered.pointer(),
            info_count: lowered.count(),
        };
        // SAFETY: all of it is as it says, and stays for the call.
        unsafe { command(&app) }
    }

    #[test]
    fn a_command_is_what_the_library_says_but_for_what_is_the_ranks_own() {
        let variables: [&[u8]; 5] = [
            b"OMPI_PARENT_PORT=a:b=c",
            b"PMIX_RANK=3",
            b"PMIX_MCA_x=1",
            b"PMI_FD=4",
            b"odd",
        ];
        let infos = [
            Info::text("pmix.host", "ws1, ws2"),
            Info::text("pmix.wdir", "there"),
        ];
        let command = read(&[b"./more", b"a", b""], &variables, 2, &infos).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = SpawnCommand {
            ranks: 2,
            arguments: ["./more", "a", ""].map(str::to_owned).to_vec(),
            directory: Some("/here/there".to_owned()),
            hosts: ["ws1", "ws2"].map(str::to_owned).to_vec(),
            environment: vec![pair("OMPI_PARENT_PORT", "a:b=c"), pair("PMIX_MCA_x", "1")],
        };
        assert_eq!(command, wanted);
    }

    #[test]
    fn a_command_that_cannot_be_is_none() {
        assert!(read(&[b"a"], &[], 0, &[]).is_none());
        assert!(read(&[b"a"], &[], -1, &[]).is_none());
        assert!(read(&[b"a", b"\xff"], &[], 1, &[]).is_none());
        assert!(read(&[b""], &[], 1, &[]).is_none_or(|one| one.arguments == [""]));
        assert!(read(&[b"a"], &[], 1, &[]).is_some());
        let many = [b"A=1".as_slice(); FEW_ITEMS_MAX + 1];
        assert!(read(&[b"a"], &many, 1, &[]).is_none());
        assert!(read(&[b"a"], &many[1..], 1, &[]).is_some());
        let hosts = Info::text("pmix.host", "a,".repeat(FEW_ITEMS_MAX + 1));
        assert!(read(&[b"a"], &[], 1, &[hosts]).is_none());
    }
}
