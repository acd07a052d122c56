//! The way of this machine to a controller elsewhere, as a member of its cluster.

use crate::model::refusal::Refusal;
use crate::net::Stream;
use crate::net::client::{Credentials, Route, dial};
use crate::net::identity::{Kind, Member};
use crate::net::membership::{self, MembershipError, due_in, greet, is_expired};
use crate::wire::hello::Role;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Before a renewal that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// A connection over which the controller has welcomed us.
pub(super) struct Reached {
    /// Orders and reports.
    pub(super) control: Box<dyn Stream>,
    /// Bytes of output, where they have a stream of their own.
    pub(super) data: Option<Box<dyn Stream>>,
    /// Where further streams can be opened.
    pub(super) route: Option<Arc<Route>>,
    /// Where the membership is kept.
    pub(super) state_dir: PathBuf,
    /// The version to speak.
    pub(super) version: u16,
}

/// A way to the controller with this machine's key.
pub(super) async fn dial_as_node(state_dir: &Path) -> Result<Route, String> {
    let member = open(state_dir)?;
    let credentials = Credentials::of(&member).map_err(|error| error.to_string())?;
    let dialled = dial(&credentials, &member.kept.addresses).await;
    dialled.map_err(|error| error.to_string())
}

/// One attempt: the controller's answer, or why there was none.
pub(super) async fn attempt(state_dir: &Path) -> Result<Result<Reached, Refusal>, String> {
    let member = open(state_dir)?;
    let route = dial_as_node(state_dir).await?;
    let streams = async {
        let control = greet(&route, Role::Worker).await?;
        Ok((control, greet(&route, Role::WorkerData).await?.0))
    };
    match streams.await {
        Ok(((control, version), data)) => Ok(Ok(Reached {
            version,
            control,
            data: Some(data),
            route: Some(Arc::new(route)),
            state_dir: state_dir.to_owned(),
        })),
        Err(MembershipError::Refused(refusal)) if is_expired(&refusal) => {
            let renewed = membership::renew(&route, state_dir, &member.kept, Kind::Node).await;
            renewed.map_err(|error| error.to_string())?;
            Err("the certificate had expired and was renewed".to_owned())
        }
        Err(MembershipError::Refused(refusal)) => Ok(Err(refusal)),
        Err(error) => Err(error.to_string()),
    }
}

fn open(state_dir: &Path) -> Result<Member, String> {
    match Member::open(state_dir, Kind::Node) {
        Ok(Some(member)) => Ok(member),
        Ok(None) => Err("this machine has not joined a cluster".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Renews in time as long as this way to the controller stands.
pub(super) async fn stay_known(route: Weak<Route>, state_dir: PathBuf) {
    loop {
        let due = open(&state_dir).map_or(TRY_AGAIN, |member| due_in(&member.kept));
        tokio::time::sleep(due).await;
        let Some(route) = route.upgrade() else { return };
        let renewed = match open(&state_dir) {
            Ok(member) => membership::renew(&route, &state_dir, &member.kept, Kind::Node)
                .await
                .map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match renewed {
            Ok(()) => tracing::info!("the certificate was renewed"),
            Err(why) => {
                tracing::warn!(why, "the certificate could not be renewed; trying again");
                drop(route);
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
}
