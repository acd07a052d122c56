//! Reading an output stream to its end: by offset, with acknowledgements that open the window, and going on
//! at the same offset after a restart of the controller.

use super::connection::{Connection, Target, unexpected};
use super::exit::{Failure, Outcome};
use crate::wire::client::{FromClient, Request, STREAM_WINDOW, ToClient};

/// Acknowledged at least this often, so that the sender never stands still.
const ACKNOWLEDGE_EVERY: u64 = STREAM_WINDOW / 4;

/// Streams what `request` names for an offset into `sink`.
pub(super) fn stream(
    target: &Target,
    request: impl Fn(u64) -> Request,
    mut sink: impl FnMut(&[u8]) -> Outcome<()>,
) -> Outcome<End> {
    let mut taken = 0;
    let mut answers = target.request(&request(0))?;
    loop {
        match part(&mut answers, &mut taken, &mut sink) {
            Ok(Some(end)) => return Ok(end),
            Ok(None) => {}
            Err(Failure::Lost(_)) => {
                answers = target.request_again(&request(taken))?;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// How a stream ended.
pub(super) enum End {
    /// With its last byte.
    Complete,
    /// Before it began: it is in logs of several nodes.
    OnNodes {
        /// The raw id to ask for.
        raw_job: u32,
    },
}

/// Takes one message; the end, when it was the last.
fn part(
    answers: &mut Connection,
    taken: &mut u64,
    sink: &mut impl FnMut(&[u8]) -> Outcome<()>,
) -> Outcome<Option<End>> {
    match answers.answer()? {
        ToClient::Data { offset, bytes } => {
            let before = *taken;
            sink(unseen(before, offset, &bytes)?)?;
            *taken = before.max(offset + bytes.len() as u64);
            if *taken / ACKNOWLEDGE_EVERY != before / ACKNOWLEDGE_EVERY {
                // A controller that has gone may have left bytes to be read: only reading finds the end.
                let _ = answers.say(&FromClient::Taken { offset: *taken });
            }
            Ok(None)
        }
        ToClient::DataEnd { error: None } => Ok(Some(End::Complete)),
        ToClient::DataEnd { error: Some(error) } => Err(Failure::Other(anyhow::anyhow!(error))),
        // Of an attached job: said when it starts and ends.
        ToClient::Started { .. } | ToClient::StdinTaken { .. } => Ok(None),
        ToClient::Ended { .. } => Ok(Some(End::Complete)),
        ToClient::OnNodes { raw_job } => Ok(Some(End::OnNodes { raw_job })),
        other => Err(unexpected(&other)),
    }
}

/// The part of a message that was not seen before.
pub(super) fn unseen(taken: u64, offset: u64, bytes: &[u8]) -> Outcome<&[u8]> {
    let Some(known) = taken.checked_sub(offset) else {
        return Err(Failure::Other(anyhow::anyhow!(
            "the output has a gap between byte {taken} and {offset}"
        )));
    };
    Ok(bytes
        .get(usize::try_from(known).unwrap_or(usize::MAX)..)
        .unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_shown_once_and_gaps_are_errors() {
        assert_eq!(unseen(0, 0, b"abc").unwrap(), b"abc");
        assert_eq!(unseen(2, 0, b"abc").unwrap(), b"c");
        assert_eq!(unseen(9, 0, b"abc").unwrap(), b"");
        assert!(unseen(2, 3, b"abc").is_err());
    }
}
