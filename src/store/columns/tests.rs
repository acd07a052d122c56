//! Rows come back as they were, and altered bytes are errors.

use super::*;
use crate::store::fixtures;
use proptest::prelude::*;

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        5 => Just(Reason::None),
        1 => Just(Reason::TimeLimit),
        1 => ".{0,20}".prop_map(Reason::JobLaunchFailure),
    ]
}

fn any_end() -> impl Strategy<Value = ElementEnd> {
    let times = prop_oneof![
        8 => (0..1000_i64, Just(true)).prop_map(|(end, started)| (1_790_000_000_000 + end, started.then_some(end))),
        1 => (any::<i64>(), any::<Option<i64>>()),
    ];
    let usage = prop_oneof![
        4 => (0..9_u64, 1000..1100_u64, Just(0_u64), Just(0_u64)),
        1 => any::<(u64, u64, u64, u64)>(),
    ];
    let outcome = (
        0..JobState::ALL.len(),
        reason(),
        any::<(u8, u8)>(),
        any::<Option<u32>>(),
        0..3_u32,
    );
    (0..u32::MAX, outcome, times, usage).prop_map(|(position, outcome, (ended, started), usage)| {
        ElementEnd {
            position,
            state: JobState::ALL[outcome.0],
            reason: outcome.1,
            exit: ExitStatus {
                code: outcome.2.0,
                signal: outcome.2.1,
            },
            cancelled_by: outcome.3,
            started: started.map(Timestamp),
            ended: Timestamp(ended),
            usage: Usage {
                cpu_ms: usage.0,
                max_rss_kib: usage.1,
                read_bytes: usage.2,
                write_bytes: usage.3,
            },
            restarts: outcome.4,
        }
    })
}

fn any_row() -> impl Strategy<Value = ElementRow> {
    let ends = prop::collection::vec((any_end(), 0..4_u32), 0..40).prop_map(|ends| {
        // Runs of neighbours, as slots make them, between jumps.
        let mut all: Vec<ElementEnd> = Vec::new();
        for (end, copies) in ends {
            for copy in 0..=copies {
                let position = end.position.saturating_add(copy).min(u32::MAX - 1);
                all.push(ElementEnd {
                    position,
                    ..end.clone()
                });
            }
        }
        all
    });
    (any::<Option<u32>>(), ends).prop_map(|(slot, ends)| ElementRow {
        never_started: None,
        slot: slot.map(SlotId),
        granted: fixtures::granted(),
        ends,
    })
}

fn encode(row: &ElementRow) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_element_row(&mut bytes, row);
    bytes
}

proptest! {
    #[test]
    fn what_was_packed_is_unpacked(row in any_row()) {
        let bytes = encode(&row);
        prop_assert_eq!(&decode_element_row(&bytes).unwrap(), &row);
        for end in &row.ends {
            prop_assert!(holds_position(&bytes, end.position).unwrap());
        }
        let mut unsuccessful = IndexSet::default();
        collect_unsuccessful(&bytes, &mut unsuccessful).unwrap();
        let expected = row.ends.iter().filter(|end| end.state != JobState::Completed).map(|end| end.position);
        prop_assert_eq!(unsuccessful, expected.collect::<IndexSet>());
    }

    #[test]
    fn any_bytes_are_a_row_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_element_row(&bytes);
        if let Some(version) = bytes.first_mut() {
            *version = 1;
        }
        let _ = decode_element_row(&bytes);
        let _ = holds_position(&bytes, 3);
        let _ = collect_unsuccessful(&bytes, &mut IndexSet::default());
    }

    #[test]
    fn a_damaged_row_is_a_row_or_an_error(row in any_row(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&row);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(row) = decode_element_row(&bytes) {
            prop_assert!(row.ends.len() <= bytes.len());
        }
        prop_assert!(decode_element_row(&bytes[..at]).is_err());
    }
}

#[test]
fn tasks_that_do_nothing_cost_about_eight_bytes() {
    for (count, most) in [(1, 60), (64, 12 * 64), (512, 9 * 512), (4096, 9 * 4096)] {
        let bytes = encode(&fixtures::element_row(3, 0, count, 0)).len();
        assert!(bytes <= most, "{count} ends take {bytes} bytes");
    }
}

#[test]
fn a_row_from_the_future_says_so() {
    let mut bytes = encode(&fixtures::element_row(0, 0, 3, 0));
    bytes[0] = 2;
    assert_eq!(
        decode_element_row(&bytes),
        Err(RecordError::Newer { found: 2, known: 1 })
    );
    assert_eq!(decode_element_row(&[]), Err(RecordError::Empty));
}
