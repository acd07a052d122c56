//! What nodes bring to a group that PMIx makes of ranks: the number that each would give it, and bytes of its library's.
//!
//! A group has one number, which no other group of its step ever has. Each node counts in numbers of its own
//! (`pmix/desk.rs`), so nobody has to be asked for one: that of the group's first node counts, for all members alike.

/// Bytes of the number.
const NUMBER: usize = 8;

/// What this node brings; no group has the number 0.
pub(super) fn part(context: Option<u64>, bytes: Vec<u8>) -> Vec<u8> {
    let mut part = context.unwrap_or(0).to_le_bytes().to_vec();
    part.extend(bytes);
    part
}

/// Of what all nodes have brought, in their order: the number, and the bytes one after another.
pub(super) fn made(parts: impl Iterator<Item = Vec<u8>>) -> (Option<u64>, Vec<u8>) {
    let mut context = None;
    let mut all = Vec::new();
    for part in parts {
        let Some((number, bytes)) = part.split_first_chunk::<NUMBER>() else {
            continue;
        };
        let number = u64::from_le_bytes(*number);
        context = context.or((number != 0).then_some(number));
        all.extend_from_slice(bytes);
    }
    (context, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_counts_and_all_bytes_come() {
        let parts = [part(Some(9), b"ab".to_vec()), part(Some(4), b"c".to_vec())];
        assert_eq!(made(parts.into_iter()), (Some(9), b"abc".to_vec()));
        // Whoever wants none names none; what is no part says nothing.
        let parts = [vec![1, 2], part(None, Vec::new()), part(Some(4), vec![0])];
        assert_eq!(made(parts.into_iter()), (Some(4), vec![0]));
        assert_eq!(made(std::iter::empty()), (None, Vec::new()));
    }
}
