//! What lets a job speak with the controller from another machine: a proof that only the controller can make, for one
//! slot on one node. Nothing is stored: whether the slot still lives is looked up at every request.

use super::run::Shared;
use crate::cluster::Principal;
use crate::model::identity::Role;
use crate::model::ids::{NodeId, SlotKey};
use crate::model::refusal::{Code, Refusal};
use crate::wire::join::Credential;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::Duration;

/// Between looks at whether the job of a credential still lives.
const LOOK: Duration = Duration::from_secs(1);

fn mac(key: &[u8; 32], slot: SlotKey, node: NodeId) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length will do");
    mac.update(b"hpc job credential 1");
    for number in [slot.job.0, slot.slot.0, node.0] {
        mac.update(&number.to_le_bytes());
    }
    mac
}

/// The credential of a slot on a node.
pub(super) fn issue(key: &[u8; 32], slot: SlotKey, node: NodeId) -> Credential {
    Credential {
        key: slot,
        proof: mac(key, slot, node).finalize().into_bytes().into(),
    }
}

/// Whom a credential speaks for, if it was issued for a slot that still has this node. `node` is the name that the
/// bringer's key stands for.
pub(super) fn principal(
    shared: &Shared,
    node: &str,
    credential: &Credential,
) -> Result<Principal, Refusal> {
    let refused = || {
        Refusal::new(
            Code::NotPermitted,
            format!(
                "job {} does not run on {node}, or this is not its credential",
                credential.key.job
            ),
            "a job's credential is good on its nodes until the job ends",
        )
    };
    let snapshot = shared.snapshot.load();
    let node = snapshot
        .nodes
        .values()
        .find(|known| known.name() == node)
        .ok_or_else(refused)?;
    let mac = mac(shared.authority.jobs_key(), credential.key, node.id);
    mac.verify_slice(&credential.proof).map_err(|_| refused())?;
    let job = snapshot.jobs.get(&credential.key.job).ok_or_else(refused)?;
    let slot = job.slot(credential.key.slot).ok_or_else(refused)?;
    if slot.allocation.share(node.id).is_none() {
        return Err(refused());
    }
    Ok(Principal {
        owner: job.owner.clone(),
        role: Role::User,
        from: format!("job {} on {}", job.id, node.name()).into(),
    })
}

/// Returns once a credential is good for nothing any more.
pub(super) async fn until_over(shared: &Shared, node: &str, credential: &Credential) {
    while principal(shared, node, credential).is_ok() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{JobId, SlotId};

    #[test]
    fn a_proof_is_good_for_one_slot_on_one_node() {
        let slot = |job, slot| SlotKey {
            job: JobId(job),
            slot: SlotId(slot),
        };
        let proof = |key: [u8; 32], slot, node| issue(&key, slot, NodeId(node)).proof;
        let one = proof([1; 32], slot(7, 0), 3);
        assert_eq!(one, proof([1; 32], slot(7, 0), 3));
        for other in [
            proof([2; 32], slot(7, 0), 3),
            proof([1; 32], slot(8, 0), 3),
            proof([1; 32], slot(7, 1), 3),
            proof([1; 32], slot(7, 0), 4),
        ] {
            assert_ne!(one, other);
        }
    }
}
