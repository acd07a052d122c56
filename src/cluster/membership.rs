//! decide: who is invited, who joins, whose certificate is made anew, and who is cut off.
//!
//! A secret never comes here, only its hash. The shell signs certificates, after the commit that admits their keys.

use super::command::Principal;
use super::{Cluster, Event, Reply};
use crate::model::identity::{Grant, Identity, Invitation, KeyId, KnownKey, Role, TokenHash};
use crate::model::identity::{USER_NAME_MAX, is_user_name};
use crate::model::node::{Link, NODE_NAME_MAX, is_node_name};
use crate::model::refusal::{Code, Refusal};
use crate::model::time::{Timestamp, format_duration};
use subtle::ConstantTimeEq;

/// Most invitations remembered.
const INVITATIONS_MAX: usize = 1000;
/// Most keys known.
const KEYS_MAX: usize = 10_000;
/// Longest life of an invitation.
const TTL_MAX_MS: i64 = 30 * 86_400_000;
/// Most uses of an invitation.
const USES_MAX: u32 = 1000;
/// How long an invitation that is over is remembered, so that who comes late hears why.
const REMEMBERED_MS: i64 = 7 * 86_400_000;

fn admins_only(who: &Principal, least: Role, what: &str) -> Result<(), Refusal> {
    if who.role >= least {
        return Ok(());
    }
    Err(Refusal::new(
        Code::NotPermitted,
        format!("{} may not {what}", who.owner.name),
        format!("ask an {least}"),
    ))
}

pub(super) fn invite(
    cluster: &Cluster,
    now: Timestamp,
    who: &Principal,
    token: TokenHash,
    grant: Grant,
    ttl_ms: i64,
    uses: u32,
) -> Result<(Reply, Vec<Event>), Refusal> {
    let least = match &grant {
        Grant::Worker => Role::Operator,
        Grant::User { .. } => Role::Admin,
    };
    admins_only(who, least, &format!("invite a {grant}"))?;
    if !(1000..=TTL_MAX_MS).contains(&ttl_ms) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("an invitation for {} s", ttl_ms / 1000),
            format!(
                "write 1s to {}",
                format_duration(TTL_MAX_MS.unsigned_abs() / 1000)
            ),
        ));
    }
    if !(1..=USES_MAX).contains(&uses) {
        let what = format!("an invitation for {uses} uses");
        return Err(Refusal::new(
            Code::Invalid,
            what,
            format!("write 1 to {USES_MAX}"),
        ));
    }
    if let Grant::User { name, .. } = &grant {
        check_user_name(name)?;
    }
    let over = |invitation: &Invitation| now.minus(invitation.expires) >= REMEMBERED_MS;
    let mut events: Vec<Event> = forgotten(cluster, over).collect();
    if cluster.invitations.len() - events.len() >= INVITATIONS_MAX {
        return Err(Refusal::new(
            Code::TooMuch,
            format!("{INVITATIONS_MAX} invitations are remembered, the most"),
            "they are forgotten a week after they expire; invite several with one line and --uses",
        ));
    }
    let expires = now.plus_ms(ttl_ms);
    events.push(Event::InvitationMade {
        token,
        invitation: Box::new(Invitation {
            grant,
            by: who.owner.name.to_string(),
            expires,
            uses_left: uses,
        }),
    });
    Ok((Reply::Invited { expires }, events))
}

fn check_user_name(name: &str) -> Result<(), Refusal> {
    if !is_user_name(name) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("\"{}\" cannot name a user", name.escape_default()),
            format!(
                "write 1 to {USER_NAME_MAX} letters, digits, '-', '_' and '.', a letter or '_' first"
            ),
        ));
    }
    if name == "root" {
        return Err(Refusal::new(
            Code::Invalid,
            "root comes from the controller's own machine only",
            "invite a person by name; --role admin lets them do as much here",
        ));
    }
    Ok(())
}

/// What a newcomer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// The hash of the secret they hold.
    pub token: TokenHash,
    /// Their key.
    pub key: KeyId,
    /// The name that a machine would have.
    pub name: String,
    /// Where they come from.
    pub from: String,
}

pub(super) fn join(
    cluster: &Cluster,
    now: Timestamp,
    newcomer: &Newcomer,
) -> Result<(Reply, Vec<Event>), Refusal> {
    let refused = |what: String| {
        let hint = "ask for a new one: `hpc invite` on the controller's machine prints it";
        Refusal::new(Code::NotPermitted, what, hint)
    };
    // Every invitation is looked at, for the same time whether one of them fits or not.
    let mut found = None;
    for (token, invitation) in &cluster.invitations {
        if bool::from(token.0.ct_eq(&newcomer.token.0)) {
            found = Some((*token, invitation));
        }
    }
    let Some((token, invitation)) = found else {
        let what = "this cluster knows no such invitation".to_owned();
        return Err(refused(what));
    };
    if now >= invitation.expires {
        let what = format!("the invitation expired at {}", invitation.expires);
        return Err(refused(what));
    }
    if invitation.uses_left == 0 {
        return Err(refused("the invitation has been used up".to_owned()));
    }
    if cluster.keys.len() >= KEYS_MAX {
        return Err(Refusal::new(
            Code::TooMuch,
            format!("{KEYS_MAX} keys are known, the most"),
            "remove nodes or users that are gone",
        ));
    }
    let (identity, replaced) = match &invitation.grant {
        Grant::Worker => admit_node(cluster, newcomer)?,
        Grant::User { name, role } => {
            let identity = Identity::User {
                name: name.clone(),
                role: *role,
            };
            (identity, Vec::new())
        }
    };
    if let Some(known) = cluster.keys.get(&newcomer.key)
        && known.identity != identity
    {
        let what = format!("this key is known already, as that of {}", known.identity);
        return Err(Refusal::new(
            Code::Conflict,
            what,
            "use another --state-dir",
        ));
    }
    let expires = now.plus_ms(cluster.settings.certificate_life_ms);
    let known = KnownKey {
        identity: identity.clone(),
        joined: now,
        expires,
        from: newcomer.from.clone(),
        invited_by: invitation.by.clone(),
    };
    let mut events: Vec<Event> = replaced
        .into_iter()
        .filter(|key| *key != newcomer.key)
        .map(|key| Event::KeyRevoked { key })
        .collect();
    events.push(Event::InvitationUsed { token });
    events.push(Event::KeyAdmitted {
        key: newcomer.key,
        known: Box::new(known),
    });
    Ok((Reply::Joined { identity, expires }, events))
}

/// The identity of a machine that joins, and the keys of one that it takes the place of.
fn admit_node(cluster: &Cluster, newcomer: &Newcomer) -> Result<(Identity, Vec<KeyId>), Refusal> {
    let name = &newcomer.name;
    if !is_node_name(name) {
        return Err(Refusal::new(
            Code::Invalid,
            format!("\"{}\" cannot name a node", name.escape_default()),
            format!("give it 1 to {NODE_NAME_MAX} letters, digits, '-', '.' and '_' with --name"),
        ));
    }
    let identity = Identity::Node(name.clone());
    let there = cluster.nodes.values().find(|node| node.name() == name);
    if let Some(node) = there {
        let mut slots = cluster.jobs.values().flat_map(|job| &job.slots);
        let why = match node.link {
            Link::Up => Some("answers"),
            // It may be back in a moment, and only its own key may say what became of its jobs.
            Link::Silent(_) => Some("has only fallen silent"),
            Link::Down(_) => slots
                .any(|slot| slot.allocation.share(node.id).is_some())
                .then_some("still has jobs"),
        };
        if let Some(why) = why {
            return Err(Refusal::new(
                Code::Conflict,
                format!("there is a node {name}, which {why}"),
                format!(
                    "give this machine another name with --name, or take that node out with `hpc node remove --force {name}`"
                ),
            ));
        }
    }
    let replaced = keys_of(cluster, name);
    if there.is_some() && replaced.is_empty() {
        // Known by the controller's own socket: nobody from outside takes its place.
        return Err(Refusal::new(
            Code::Conflict,
            format!("node {name} is the controller's own machine"),
            "give this machine another name with --name",
        ));
    }
    Ok((identity, replaced))
}

/// The keys that speak for a node.
pub(super) fn keys_of(cluster: &Cluster, name: &str) -> Vec<KeyId> {
    let speaks = |known: &KnownKey| matches!(&known.identity, Identity::Node(node) if node == name);
    cluster
        .keys
        .iter()
        .filter(|(_, known)| speaks(known))
        .map(|(key, _)| *key)
        .collect()
}

/// A known key's certificate is made anew; one that has expired too, for nobody else can judge that it has.
pub(super) fn renew(
    cluster: &Cluster,
    now: Timestamp,
    key: KeyId,
) -> Result<(Reply, Vec<Event>), Refusal> {
    let Some(known) = cluster.keys.get(&key) else {
        return Err(unknown_key());
    };
    let expires = now.plus_ms(cluster.settings.certificate_life_ms);
    let identity = known.identity.clone();
    let known = KnownKey {
        expires,
        ..(**known).clone()
    };
    let event = Event::KeyAdmitted {
        key,
        known: Box::new(known),
    };
    Ok((Reply::Joined { identity, expires }, vec![event]))
}

/// What a key hears that was taken back, or never was of this cluster.
#[must_use]
pub fn unknown_key() -> Refusal {
    Refusal::new(
        Code::Revoked,
        "this cluster does not know this machine's or person's key, or no longer",
        "`hpc join` (a machine) or `hpc login` (a person) with a new line from `hpc invite`",
    )
}

/// The end of these invitations.
fn forgotten(
    cluster: &Cluster,
    which: impl Fn(&Invitation) -> bool,
) -> impl Iterator<Item = Event> {
    let all = cluster.invitations.iter();
    all.filter(move |(_, invitation)| which(invitation))
        .map(|(token, _)| Event::InvitationForgotten { token: *token })
}

/// Takes back the open invitations that admit this.
pub(super) fn withdraw(
    cluster: &Cluster,
    who: &Principal,
    grant: &Grant,
) -> Result<(Reply, Vec<Event>), Refusal> {
    admins_only(who, Role::Admin, "take invitations back")?;
    let open = |invitation: &Invitation| invitation.uses_left > 0 && invitation.grant == *grant;
    let events: Vec<Event> = forgotten(cluster, open).collect();
    if events.is_empty() {
        return Err(Refusal::new(
            Code::Invalid,
            format!("no open invitation admits: {grant}"),
            "`hpc user list` shows those that are open",
        ));
    }
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    let notes = Vec::new();
    Ok((Reply::Touched { count, notes }, events))
}

pub(super) fn revoke_user(
    cluster: &Cluster,
    who: &Principal,
    name: &str,
) -> Result<(Reply, Vec<Event>), Refusal> {
    admins_only(who, Role::Admin, "take keys back")?;
    let speaks = |known: &KnownKey| matches!(&known.identity, Identity::User { name: user, .. } if user == name);
    let mut events: Vec<Event> = cluster
        .keys
        .iter()
        .filter(|(_, known)| speaks(known))
        .map(|(key, _)| Event::KeyRevoked { key: *key })
        .collect();
    let keys = events.len();
    // Nor may they come back by a line that is still open.
    let open = |invitation: &Invitation| {
        invitation.uses_left > 0
            && matches!(&invitation.grant, Grant::User { name: user, .. } if user == name)
    };
    events.extend(forgotten(cluster, open));
    if events.is_empty() {
        return Err(Refusal::new(
            Code::Invalid,
            format!(
                "no key and no open invitation is {}'s",
                name.escape_default()
            ),
            "`hpc user list` shows who has one",
        ));
    }
    let count = u32::try_from(keys).unwrap_or(u32::MAX);
    let notes = Vec::new();
    Ok((Reply::Touched { count, notes }, events))
}
