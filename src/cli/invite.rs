//! `hpc invite`: the line with which a machine joins or a person logs in.

use super::Verb;
use super::connection::{Target, unexpected};
use super::exit::{self, Failure, Outcome};
use super::output::{self, words};
use crate::model::identity::{Grant, Role};
use crate::wire::client::{Request, ToClient};
use clap::{Args, ValueEnum};

/// Print a line with which a machine joins, or a person logs in
///
/// The line says where the controller is, whom to trust, and a secret that is good until it expires or is used up.
/// Give it to nobody else.
///
/// Examples:
///   hpc invite
///   hpc invite --uses 8 --ttl 1d
///   hpc invite --role user --user alice
///   hpc invite --withdraw
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Invite {
    /// What it admits
    #[arg(long, value_enum, default_value = "worker", value_name = "ROLE")]
    role: As,
    /// Name of the person, for every role but worker
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How long it is good: 90s, 30m, 1h, 7d
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = seconds)]
    ttl: u32,
    /// How often it can be used
    #[arg(long, default_value = "1", value_name = "N")]
    uses: u32,
    /// The bare line, for scripts
    #[arg(long)]
    parsable: bool,
    /// Take back the open invitations of this kind instead: those for workers, or of --role and --user
    #[arg(long, conflicts_with_all = ["ttl", "uses", "parsable"])]
    withdraw: bool,
}

/// Roles on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum As {
    Worker,
    Viewer,
    User,
    Operator,
    Admin,
}

/// `90s`, `30m`, `1h`, `7d`, or bare seconds.
pub(super) fn seconds(text: &str) -> Result<u32, String> {
    let bad = || format!("\"{text}\" is no time: write 90s, 30m, 1h or 7d");
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let count: u32 = digits.parse().map_err(|_| bad())?;
    count
        .checked_mul(unit)
        .ok_or_else(|| format!("\"{text}\" is too long: at most 30d"))
}

/// As people say it.
fn spoken(seconds: u32) -> String {
    for (unit, word) in [(86_400, "d"), (3600, "h"), (60, "min")] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{} {word}", seconds / unit);
        }
    }
    format!("{seconds} s")
}

/// Has a line made.
pub(super) fn ask(target: &Target, grant: Grant, ttl_s: u32, uses: u32) -> Outcome<String> {
    match target.ask(&Request::Invite { grant, ttl_s, uses })? {
        ToClient::Invited { line, .. } => Ok(line),
        other => Err(unexpected(&other)),
    }
}

impl Verb for Invite {
    fn run(self, target: &Target) -> Outcome {
        let grant = self.grant()?;
        let shown = grant.to_string();
        if self.withdraw {
            return match target.ask(&Request::Withdraw { grant })? {
                ToClient::Done { count, .. } => {
                    let count = words::counted(count, "invitation");
                    output::line(&format!("{count} taken back: {shown}"))?;
                    Ok(exit::DONE)
                }
                other => Err(unexpected(&other)),
            };
        }
        let verb = match grant {
            Grant::Worker => "join",
            Grant::User { .. } => "login",
        };
        let line = ask(target, grant, self.ttl, self.uses)?;
        if self.parsable {
            output::line(&line)?;
        } else {
            let uses = match self.uses {
                1 => "one use".to_owned(),
                uses => format!("{uses} uses"),
            };
            // Behind a comment sign, so that all of it can be pasted.
            let until = spoken(self.ttl);
            output::line(&format!(
                "hpc {verb} {line}   # {shown}, {uses}, expires in {until}"
            ))?;
        }
        Ok(exit::DONE)
    }
}

impl Invite {
    fn grant(&self) -> Outcome<Grant> {
        let role = match self.role {
            As::Worker => {
                return match &self.user {
                    None => Ok(Grant::Worker),
                    Some(_) => Err(Failure::Usage(
                        "--user names a person: say what they may do with --role user".to_owned(),
                    )),
                };
            }
            As::Viewer => Role::Viewer,
            As::User => Role::User,
            As::Operator => Role::Operator,
            As::Admin => Role::Admin,
        };
        match self.user.clone() {
            Some(name) => Ok(Grant::User { name, role }),
            None => Err(Failure::Usage(format!(
                "--role {role} is for a person: name them with --user NAME"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_said() {
        for (text, value, said) in [
            ("90s", 90, "90 s"),
            ("45", 45, "45 s"),
            ("30m", 1800, "30 min"),
            ("1h", 3600, "1 h"),
            ("7d", 604_800, "7 d"),
        ] {
            assert_eq!(seconds(text), Ok(value));
            assert_eq!(spoken(value), said);
        }
        for bad in ["", "h", "1w", "-1h", "1.5h", "99999999d", "é"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
