//! The grammar of settings: how each key is read and written.

use super::super::account::{Account, ROOT, User};
use super::super::constraint::is_feature;
use super::super::hostlist;
use super::super::license::{License, NodeRule};
use super::super::limits::{LimitKind, Limits, parse_seconds};
use super::super::partition::Partition;
use super::super::preempt::{PreemptMode, Yielding};
use super::super::qos::Qos;
use super::super::reservation::{Purpose, Repeat, Reservation, parse_on, show_on};
use super::super::switches;
use super::super::time::{Timestamp, format_duration};
use super::{GRACE_MAX_S, Noun, Setting, TEXT_MAX, unknown_key};

pub(super) fn parse_bool(value: &str) -> Result<bool, String> {
    match value {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" | "" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

fn show_bool(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn parse_u32(value: &str, least: u32) -> Result<u32, String> {
    match value.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("write a whole number from {least} to {}", u32::MAX)),
    }
}

fn parse_span(value: &str) -> Result<Option<u32>, String> {
    if matches!(value, "" | "none" | "unlimited") {
        return Ok(None);
    }
    let span = parse_seconds(value)?;
    Ok(span.and_then(|span| u32::try_from(span).ok()))
}

/// How long people may reserve for themselves.
fn parse_reserve_time(value: &str) -> Result<Option<u32>, String> {
    if matches!(value, "off" | "0") {
        return Ok(Some(0));
    }
    let span = parse_span(value)?;
    if span.is_none() && !matches!(value, "" | "none") {
        return Err("write a time, off, or none (as the account above says)".to_owned());
    }
    Ok(span)
}

fn show_span(span: Option<u32>) -> String {
    span.map_or_else(
        || "none".to_owned(),
        |span| format_duration(u64::from(span)),
    )
}

fn show_seconds(seconds: u32) -> String {
    format_duration(u64::from(seconds))
}

fn set_yields(yields: &mut Yielding, key: &str, value: &str) -> Result<(), String> {
    match key {
        "preempt-mode" => yields.mode = PreemptMode::parse(value)?,
        "grace-time" => yields.grace_s = parse_short(value, GRACE_MAX_S)?,
        _ => yields.exempt_s = parse_short(value, u32::MAX)?,
    }
    Ok(())
}

/// A time that `none` makes nothing of.
fn parse_short(value: &str, most_s: u32) -> Result<u32, String> {
    let seconds = parse_span(value)?.unwrap_or(0);
    if seconds > most_s {
        return Err(format!("at most {}", show_seconds(most_s)));
    }
    Ok(seconds)
}

/// A list as `a,b`; nothing, `all` or `none` is the empty one.
fn parse_list(value: &str) -> Vec<String> {
    if matches!(value, "all" | "none") {
        return Vec::new();
    }
    let names = value.split(',').map(str::trim);
    let mut list: Vec<String> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
    list
}

fn show_list(list: &[String], empty: &str) -> String {
    if list.is_empty() {
        empty.to_owned()
    } else {
        list.join(",")
    }
}

fn parse_text(value: &str) -> Result<String, String> {
    if value.len() > TEXT_MAX || value.contains(|one: char| one.is_control()) {
        return Err(format!("write at most {TEXT_MAX} bytes on one line"));
    }
    Ok(value.to_owned())
}

fn set_limit(limits: &mut Limits, noun: Noun, key: &str, value: &str) -> Result<(), String> {
    let kind = LimitKind::parse(key).ok_or_else(|| unknown_key(noun))?;
    limits.set(kind, kind.parse_value(value)?);
    Ok(())
}

fn of_limits(limits: &Limits) -> impl Iterator<Item = Setting> {
    limits
        .iter()
        .map(|(kind, value)| (kind.word().to_owned(), kind.show(value)))
}

fn listed<const N: usize>(settings: [(&str, String); N], limits: &Limits) -> Vec<Setting> {
    let settings = settings.into_iter();
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    settings.chain(of_limits(limits)).collect()
}

pub(super) fn set_partition(one: &mut Partition, key: &str, value: &str) -> Result<(), String> {
    match key {
        "default" => one.default = parse_bool(value)?,
        "max-time" => one.max_time_s = parse_span(value)?,
        "default-time" => one.default_time_s = parse_span(value)?,
        "nodes" if matches!(value, "" | "all") => one.nodes = Vec::new(),
        "nodes" => one.nodes = hostlist::parse(value).map_err(|error| error.to_string())?,
        "state" => {
            one.up = match value.to_ascii_lowercase().as_str() {
                "up" => true,
                "down" => false,
                _ => return Err("write up or down".to_owned()),
            }
        }
        "priority" => one.priority = parse_u32(value, 0)?,
        "tier" => one.tier = parse_u32(value, 0)?,
        "preempt-mode" | "grace-time" | "exempt-time" => set_yields(&mut one.yields, key, value)?,
        "accounts" => one.accounts = parse_list(value),
        "qos" => one.qos = parse_list(value),
        _ => set_limit(&mut one.limits, Noun::Partition, key, value)?,
    }
    Ok(())
}

pub(super) fn of_partition(one: &Partition) -> Vec<Setting> {
    let nodes = if one.nodes.is_empty() {
        "all".to_owned()
    } else {
        hostlist::fold(&one.nodes)
    };
    let settings = [
        ("default", show_bool(one.default)),
        ("max-time", show_span(one.max_time_s)),
        ("default-time", show_span(one.default_time_s)),
        ("nodes", nodes),
        ("state", if one.up { "up" } else { "down" }.to_owned()),
        ("priority", one.priority.to_string()),
        ("tier", one.tier.to_string()),
        ("preempt-mode", one.yields.mode.word().to_owned()),
        ("grace-time", show_seconds(one.yields.grace_s)),
        ("exempt-time", show_seconds(one.yields.exempt_s)),
        ("accounts", show_list(&one.accounts, "all")),
        ("qos", show_list(&one.qos, "all")),
    ];
    listed(settings, &one.limits)
}

pub(super) fn set_account(one: &mut Account, key: &str, value: &str) -> Result<(), String> {
    match key {
        "parent" if one.name == ROOT => return Err("nothing is above it".to_owned()),
        "parent" => one.parent = Some(value.to_owned()),
        "shares" => one.shares = parse_u32(value, 0)?,
        "qos" => one.qos = parse_list(value),
        "reserve-time" => one.reserve_time_s = parse_reserve_time(value)?,
        "description" => one.description = parse_text(value)?,
        _ => set_limit(&mut one.limits, Noun::Account, key, value)?,
    }
    Ok(())
}

pub(super) fn of_account(one: &Account) -> Vec<Setting> {
    let settings = [
        ("parent", one.parent.clone().unwrap_or_default()),
        ("shares", one.shares.to_string()),
        ("qos", show_list(&one.qos, "all")),
        (
            "reserve-time",
            match one.reserve_time_s {
                Some(0) => "off".to_owned(),
                span => show_span(span),
            },
        ),
        ("description", one.description.clone()),
    ];
    listed(settings, &one.limits)
}

pub(super) fn set_user(one: &mut User, key: &str, value: &str) -> Result<(), String> {
    match key {
        "account" => one.account = value.to_owned(),
        "accounts" => one.accounts = parse_list(value),
        "shares" => one.shares = parse_u32(value, 0)?,
        "qos" => one.qos = parse_list(value),
        "default-qos" => {
            one.default_qos = (!matches!(value, "" | "none")).then(|| value.to_owned());
        }
        _ => set_limit(&mut one.limits, Noun::User, key, value)?,
    }
    Ok(())
}

pub(super) fn of_user(one: &User) -> Vec<Setting> {
    let default_qos = one.default_qos.clone();
    let settings = [
        ("account", one.account.clone()),
        ("accounts", show_list(&one.accounts, "none")),
        ("shares", one.shares.to_string()),
        ("qos", show_list(&one.qos, "all")),
        (
            "default-qos",
            default_qos.unwrap_or_else(|| "none".to_owned()),
        ),
    ];
    listed(settings, &one.limits)
}

pub(super) fn set_qos(one: &mut Qos, key: &str, value: &str) -> Result<(), String> {
    match key {
        "priority" => one.priority = parse_u32(value, 0)?,
        "preempts" => one.preempts = parse_list(value),
        "preempt-mode" | "grace-time" | "exempt-time" => set_yields(&mut one.yields, key, value)?,
        "usage-factor" => one.usage_factor_milli = parse_milli(value)?,
        _ => set_limit(&mut one.limits, Noun::Qos, key, value)?,
    }
    Ok(())
}

pub(super) fn of_qos(one: &Qos) -> Vec<Setting> {
    let milli = one.usage_factor_milli;
    let settings = [
        ("priority", one.priority.to_string()),
        ("preempts", show_list(&one.preempts, "none")),
        ("preempt-mode", one.yields.mode.word().to_owned()),
        ("grace-time", show_seconds(one.yields.grace_s)),
        ("exempt-time", show_seconds(one.yields.exempt_s)),
        (
            "usage-factor",
            format!("{}.{:03}", milli / 1000, milli % 1000),
        ),
    ];
    listed(settings, &one.limits)
}

/// A number with up to three digits behind its point, in thousandths.
fn parse_milli(value: &str) -> Result<u32, String> {
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let whole_milli = whole
        .parse::<u32>()
        .ok()
        .and_then(|whole| whole.checked_mul(1000));
    match whole_milli {
        Some(milli) if part.len() <= 3 && digits(part) => {
            let part: u32 = format!("{part:0<3}").parse().unwrap_or(0);
            Ok(milli.saturating_add(part))
        }
        _ => Err("write a number such as 1, 0.5 or 2.25".to_owned()),
    }
}

pub(super) fn set_license(one: &mut License, key: &str, value: &str) -> Result<(), String> {
    match key {
        "count" => one.count = parse_u32(value, 0)?,
        _ => return Err(unknown_key(Noun::License)),
    }
    Ok(())
}

pub(super) fn of_license(one: &License) -> Vec<Setting> {
    vec![("count".to_owned(), one.count.to_string())]
}

pub(super) fn set_node(one: &mut NodeRule, key: &str, value: &str) -> Result<(), String> {
    match key {
        "features" => {
            let features = parse_list(value);
            if let Some(wrong) = features.iter().find(|name| !is_feature(name)) {
                return Err(format!(
                    "`{wrong}`: write letters, digits, '-', '_', '.', ':' and '+'"
                ));
            }
            one.features = features;
        }
        "switch" => one.switch = switches::parse_path(value)?,
        "failures" => return Err("they are counted by the cluster, not set".to_owned()),
        _ => return Err(unknown_key(Noun::Node)),
    }
    Ok(())
}

pub(super) fn of_node(one: &NodeRule) -> Vec<Setting> {
    let switch = one.switch.clone().unwrap_or_else(|| "none".to_owned());
    vec![
        ("features".to_owned(), show_list(&one.features, "none")),
        ("switch".to_owned(), switch),
    ]
}

/// A point in time as RFC 3339.
fn parse_point(value: &str) -> Result<Timestamp, String> {
    let point: Result<jiff::Timestamp, _> = value.parse();
    let point = point.map_err(|_| "write a time such as 2026-01-31T14:00:00Z".to_owned())?;
    Ok(Timestamp(point.as_millisecond()))
}

fn show_point(point: Timestamp) -> String {
    point.to_rfc3339(&jiff::tz::TimeZone::UTC)
}

pub(super) fn set_reservation(one: &mut Reservation, key: &str, value: &str) -> Result<(), String> {
    match key {
        "start" => one.start = parse_point(value)?,
        "end" => one.end = parse_point(value)?,
        "repeat" => {
            let mut all = Repeat::ALL.into_iter();
            let found = all.find(|repeat| repeat.word() == value);
            one.repeat = found.ok_or_else(|| "write once, daily or weekly".to_owned())?;
        }
        "zone" if matches!(value, "" | "none") => one.zone = None,
        "zone" => {
            let known = jiff::tz::TimeZone::get(value);
            known.map_err(|_| "write a time zone's name, such as Europe/Berlin".to_owned())?;
            one.zone = Some(value.to_owned());
        }
        "nodes" if matches!(value, "" | "none") => one.nodes = Vec::new(),
        "nodes" => one.nodes = hostlist::parse(value).map_err(|error| error.to_string())?,
        "node-count" => one.node_count = parse_u32(value, 0)?,
        "gpus" => {
            let (kind, count) = value.rsplit_once(':').unwrap_or(("", value));
            one.gpus = parse_u32(count, 0)?;
            one.gpu_kind = (!kind.is_empty()).then(|| kind.to_owned());
        }
        "cpus" => one.cpus = parse_u32(value, 0)?,
        "users" => one.users = parse_list(value),
        "accounts" => one.accounts = parse_list(value),
        "purpose" => {
            one.purpose = match value {
                "jobs" => Purpose::Jobs,
                "maintenance" => Purpose::Maintenance,
                _ => return Err("write jobs or maintenance".to_owned()),
            }
        }
        "description" => one.description = parse_text(value)?,
        "on" => one.on = parse_on(value)?,
        _ => return Err(unknown_key(Noun::Reservation)),
    }
    Ok(())
}

pub(super) fn of_reservation(one: &Reservation) -> Vec<Setting> {
    let nodes = match one.nodes.as_slice() {
        [] => "none".to_owned(),
        nodes => hostlist::fold(nodes),
    };
    let gpus = match &one.gpu_kind {
        Some(kind) => format!("{kind}:{}", one.gpus),
        None => one.gpus.to_string(),
    };
    let settings = [
        ("start", show_point(one.start)),
        ("end", show_point(one.end)),
        ("repeat", one.repeat.word().to_owned()),
        (
            "zone",
            one.zone.clone().unwrap_or_else(|| "none".to_owned()),
        ),
        ("nodes", nodes),
        ("node-count", one.node_count.to_string()),
        ("gpus", gpus),
        ("cpus", one.cpus.to_string()),
        ("users", show_list(&one.users, "none")),
        ("accounts", show_list(&one.accounts, "none")),
        ("purpose", one.purpose.word().to_owned()),
        ("description", one.description.clone()),
        ("on", show_on(&one.on)),
    ];
    let settings = settings.into_iter();
    settings
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
