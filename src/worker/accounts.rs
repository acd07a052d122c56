//! Accounts of this machine, as a shepherd needs them. Looked up here, never taken from a message.

use crate::model::job::Owner;
use crate::sys::identity::{account_by_uid, groups_of, is_root};
use crate::wire::shepherd::Account;

/// The owner's account here, or why nothing may run for this owner on this node. May ask the network.
pub(super) fn look_up(owner: &Owner) -> Result<Option<Account>, String> {
    let own = nix::unistd::geteuid().as_raw();
    if !is_root() && owner.uid != own {
        return Err(format!(
            "this node's agent runs as user {own} and starts nothing for user {} ({})",
            owner.uid, owner.name
        ));
    }
    let found = account_by_uid(owner.uid)
        .map_err(|error| format!("user {} cannot be looked up here: {error}", owner.uid))?;
    let Some(found) = found else {
        // Our own user needs no account to run as itself (a container without passwd entries).
        return if owner.uid == own {
            Ok(None)
        } else {
            Err(format!(
                "user {} ({}) has no account on this node",
                owner.uid, owner.name
            ))
        };
    };
    if owner.uid != own && found.name != *owner.name {
        return Err(format!(
            "user {} is {} on this node and not {}",
            owner.uid, found.name, owner.name
        ));
    }
    let groups = groups_of(&found.name, found.gid)
        .map_err(|error| format!("the groups of {} cannot be looked up: {error}", found.name))?;
    Ok(Some(Account {
        home: found.home.to_string_lossy().into_owned(),
        shell: found.shell.to_string_lossy().into_owned(),
        name: found.name,
        uid: found.uid,
        gid: found.gid,
        groups,
    }))
}
