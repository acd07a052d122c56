//! From a user of the cluster to an account of one machine.
//!
//! Names of a cluster are one thing, accounts of a machine another: uids differ, and now and then names do. Without an
//! entry a user has the account of the same name. Nobody ever gets another's account, and root comes to nobody who is
//! not root on the controller's own machine: an entry that would do so is an error, and a name that somebody else has
//! been given is nobody's own any more.

use super::identity::is_user_name;
use super::job::Owner;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The entries of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct UserMap(BTreeMap<String, String>);

impl TryFrom<BTreeMap<String, String>> for UserMap {
    type Error = String;

    fn try_from(entries: BTreeMap<String, String>) -> Result<Self, String> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (user, account) in &entries {
            for name in [user, account] {
                if !is_user_name(name) {
                    return Err(format!("users: \"{name}\" cannot name a user"));
                }
            }
            if account == "root" || user == "root" {
                return Err(format!(
                    "users: {user} = {account}: nobody is given root, and root is given to nobody"
                ));
            }
            if let Some(other) = owners.insert(account, user) {
                return Err(format!(
                    "users: {other} and {user} would both be {account}: give each an account of their own"
                ));
            }
        }
        Ok(UserMap(entries))
    }
}

/// An account as the machine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: u32,
}

impl UserMap {
    /// Users and the accounts they are given.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(user, account)| (user.as_str(), account.as_str()))
    }

    /// The account's name that a user of the cluster has here.
    ///
    /// # Errors
    /// Why they have none.
    pub fn account_of<'a>(&'a self, user: &'a str) -> Result<&'a str, String> {
        if let Some(account) = self.0.get(user) {
            return Ok(account);
        }
        match self.0.iter().find(|(_, account)| *account == user) {
            Some((other, _)) => Err(format!(
                "account {user} on this node is given to {other}, and {user} has no other"
            )),
            None => Ok(user),
        }
    }

    /// The user of the cluster that an account of this machine is.
    #[must_use]
    pub fn user_of<'a>(&'a self, account: &'a str) -> Option<&'a str> {
        let given = self.0.iter().find(|(_, given)| *given == account);
        match given {
            Some((user, _)) => Some(user),
            // Its own user, unless that one has been given another account.
            None => (!self.0.contains_key(account)).then_some(account),
        }
    }

    /// The uid that a user's processes have on this machine, of which `by_name` and `by_uid` know the accounts.
    ///
    /// # Errors
    /// Why nothing may run for this user here.
    pub fn resolve(
        &self,
        owner: &Owner,
        allow_root: bool,
        by_name: impl Fn(&str) -> Option<Known>,
        by_uid: impl Fn(u32) -> Option<Known>,
    ) -> Result<Known, String> {
        let user = &*owner.name;
        if user == "root" {
            if !allow_root {
                return Err("this node runs no jobs of root (allow_root_jobs = false)".to_owned());
            }
            return by_name("root")
                .filter(|account| account.uid == 0)
                .ok_or_else(|| "root has no account on this node".to_owned());
        }
        let account = self.account_of(user)?;
        let known = by_name(account)
            .ok_or_else(|| format!("user {user} has no account {account} on this node"))?;
        if known.uid == 0 {
            return Err(format!(
                "account {account} on this node is root's, and {user} is not root"
            ));
        }
        // Two names for one uid: whose it is cannot be said.
        match by_uid(known.uid) {
            Some(first) if first.name == known.name => Ok(known),
            _ => Err(format!(
                "uid {} of account {account} on this node belongs to another name too",
                known.uid
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn owner(name: &str) -> Owner {
        Owner {
            uid: 4242,
            gid: 4242,
            name: name.into(),
        }
    }

    fn map(entries: &[(&str, &str)]) -> Result<UserMap, String> {
        let entries: BTreeMap<String, String> = entries
            .iter()
            .map(|(user, account)| ((*user).to_owned(), (*account).to_owned()))
            .collect();
        entries.try_into()
    }

    #[test]
    fn without_an_entry_it_is_the_same_name_unless_that_was_given_away() {
        let map = map(&[("alice", "asmith"), ("carol", "bob")]).unwrap();
        assert_eq!(map.account_of("alice"), Ok("asmith"));
        assert_eq!(map.account_of("dave"), Ok("dave"));
        assert!(
            map.account_of("bob")
                .unwrap_err()
                .contains("given to carol")
        );
        // An account of her own name is not hers here.
        assert!(map.account_of("asmith").is_err());
        assert_eq!(map.user_of("asmith"), Some("alice"));
        assert_eq!(map.user_of("dave"), Some("dave"));
        assert_eq!(map.user_of("alice"), None);
    }

    #[test]
    fn entries_that_would_mix_people_up_are_refused() {
        for entries in [
            &[("a", "x"), ("b", "x")][..],
            &[("a", "root")],
            &[("root", "a")],
            &[("1000", "a")],
            &[("a", "0")],
        ] {
            assert!(map(entries).is_err(), "{entries:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn nobody_gets_another_persons_uid_or_roots(
            entries in prop::collection::btree_map("[a-e]", "[a-e]", 0..5),
            uids in prop::collection::btree_map("[a-e]", 0u32..4, 0..6),
            allow_root: bool,
        ) {
            // A machine: names with uids, some of them shared, some of them 0.
            let by_name = |name: &str| match name {
                "root" => Some(Known { name: "root".into(), uid: 0 }),
                name => uids.get(name).map(|uid| Known { name: name.into(), uid: *uid }),
            };
            let by_uid = |uid: u32| match uid {
                0 => Some(Known { name: "root".into(), uid: 0 }),
                uid => uids.iter().find(|(_, known)| **known == uid)
                    .map(|(name, uid)| Known { name: name.clone(), uid: *uid }),
            };
            if let Ok(map) = UserMap::try_from(entries.clone()) {
                let mut taken = BTreeSet::new();
                for user in ["a", "b", "c", "d", "e", "root"] {
                    let Ok(known) = map.resolve(&owner(user), allow_root, by_name, by_uid) else { continue };
                    prop_assert_eq!(known.uid == 0, user == "root");
                    prop_assert!(user != "root" || allow_root);
                    prop_assert!(taken.insert(known.uid), "{} shares uid {}", user, known.uid);
                    let asked = entries.get(user).map_or(user, String::as_str);
                    prop_assert_eq!(&known.name, asked);
                }
            }
        }
    }
}
