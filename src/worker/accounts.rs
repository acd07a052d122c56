//! Accounts of this machine, as a shepherd needs them. Looked up here, never taken from a message.

use super::Controller;
use crate::model::job::Owner;
use crate::model::user_map::{Known, UserMap};
use crate::sys::identity::{self, account_by_name, account_by_uid, groups_of, is_root};
use crate::wire::shepherd::Account;

/// Whose account is whose on this machine.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    /// On the controller's own machine a user is an account of the same uid and name.
    pub(super) controller: Controller,
    /// Elsewhere the name decides, and these entries.
    pub(super) users: UserMap,
    /// Whether jobs of root run.
    pub(super) allow_root: bool,
}

impl Accounts {
    /// The owner's account here, or why nothing may run for this owner on this node. May ask the network.
    pub(super) fn look_up(&self, owner: &Owner) -> Result<Option<Account>, String> {
        match self.controller {
            Controller::Here => self.here(owner),
            Controller::Elsewhere => self.elsewhere(owner).map(Some),
        }
    }

    fn here(&self, owner: &Owner) -> Result<Option<Account>, String> {
        let own = nix::unistd::geteuid().as_raw();
        if owner.uid == 0 && !self.allow_root {
            return Err("this node runs no jobs of root (allow_root_jobs = false)".to_owned());
        }
        if !is_root() && owner.uid != own {
            return Err(foreign(owner));
        }
        let found = account_by_uid(owner.uid)
            .map_err(|error| format!("user {} cannot be looked up here: {error}", owner.uid))?;
        let Some(found) = found else {
            // Our own user needs no account to run as itself (a container without passwd entries).
            return if owner.uid == own {
                Ok(None)
            } else if owner.uid == Owner::NO_UID {
                Err(format!("user {} has no account on this node", owner.name))
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
        whole(found).map(Some)
    }

    fn elsewhere(&self, owner: &Owner) -> Result<Account, String> {
        let known = |account: identity::Account| Known {
            name: account.name,
            uid: account.uid,
        };
        // A service that does not answer is no answer.
        let by_name = |name: &str| account_by_name(name).ok().flatten().map(known);
        let by_uid = |uid: u32| account_by_uid(uid).ok().flatten().map(known);
        let resolved = self
            .users
            .resolve(owner, self.allow_root, by_name, by_uid)?;
        if !is_root() && resolved.uid != nix::unistd::geteuid().as_raw() {
            return Err(foreign(owner));
        }
        let found = account_by_name(&resolved.name)
            .map_err(|error| format!("user {} cannot be looked up here: {error}", owner.name))?
            .filter(|account| account.uid == resolved.uid)
            .ok_or_else(|| format!("account {} changed while it was looked up", resolved.name))?;
        whole(found)
    }

    /// The user of the cluster whose jobs alone this agent runs; `None` = everybody's.
    pub(super) fn serves(&self) -> Result<Option<String>, String> {
        if is_root() {
            return Ok(None);
        }
        let own = nix::unistd::geteuid().as_raw();
        let account = account_by_uid(own).ok().flatten().ok_or_else(|| {
            format!("uid {own} has no name here, so the cluster cannot know whose jobs to send")
        })?;
        match self.users.user_of(&account.name) {
            Some(user) => Ok(Some(user.to_owned())),
            None => Err(format!(
                "account {} is no user of the cluster here",
                account.name
            )),
        }
    }
}

fn foreign(owner: &Owner) -> String {
    format!(
        "this node's agent runs as user {} and starts nothing for {}",
        nix::unistd::geteuid(),
        owner.name
    )
}

/// With its groups.
fn whole(found: identity::Account) -> Result<Account, String> {
    let groups = groups_of(&found.name, found.gid)
        .map_err(|error| format!("the groups of {} cannot be looked up: {error}", found.name))?;
    Ok(Account {
        home: found.home.to_string_lossy().into_owned(),
        shell: found.shell.to_string_lossy().into_owned(),
        name: found.name,
        uid: found.uid,
        gid: found.gid,
        groups,
    })
}
