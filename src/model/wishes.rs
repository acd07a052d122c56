//! What jobs may ask for beside amounts: features of nodes, licences, a reservation, few switches.
//!
//! Most ask for none of it. On the wire and in the store it is one text or nothing, `constraint=a&b;licenses=x:2`, where
//! earlier builds had a text that was always absent: so both understand each other as long as nothing of it is asked for.

use super::constraint::Constraint;
use super::rules::Rules;
use super::switches::SwitchWish;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Write as _;

/// Longest text; bytes.
const TEXT_MAX: usize = 8192;
/// Most kinds of licence of one job.
const LICENSES_MAX: usize = 32;

/// So many of a licence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LicenseWish {
    /// Which.
    pub name: String,
    /// How many, for as long as the job runs.
    pub count: u32,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wishes {
    /// Features that its nodes must have: a [`Constraint`] as text.
    pub constraint: Option<String>,
    /// Licences, by name.
    pub licenses: Vec<LicenseWish>,
    /// The reservation in which it is to run.
    pub reservation: Option<String>,
    /// Under few switches.
    pub switches: Option<SwitchWish>,
}

impl Wishes {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Wishes::default()
    }

    /// The features, as far as they can be read.
    #[must_use]
    pub fn features(&self) -> Option<Constraint> {
        Constraint::parse(self.constraint.as_deref()?).ok()
    }

    /// Reads `--licenses`: `matlab:2,comsol`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_licenses(text: &str) -> Result<Vec<LicenseWish>, String> {
        let mut wishes: Vec<LicenseWish> = Vec::new();
        for one in text.split([',', ';']).filter(|one| !one.is_empty()) {
            let (name, count) = one.split_once([':', '=']).unwrap_or((one, "1"));
            let count = match count.parse::<u32>() {
                Ok(count @ 1..) => count,
                _ => return Err(format!("`{one}`: write NAME:COUNT, a count from 1")),
            };
            Rules::check_name(super::rules::Noun::License, name).map_err(|refusal| refusal.what)?;
            match wishes.iter_mut().find(|known| known.name == name) {
                Some(known) => known.count = known.count.saturating_add(count),
                None => wishes.push(LicenseWish {
                    name: name.to_owned(),
                    count,
                }),
            }
        }
        if wishes.is_empty() || wishes.len() > LICENSES_MAX {
            return Err(format!(
                "write 1 to {LICENSES_MAX} licences such as matlab:2"
            ));
        }
        wishes.sort();
        Ok(wishes)
    }

    /// Licences as they are written.
    #[must_use]
    pub fn show_licenses(&self) -> String {
        let licenses = self.licenses.iter();
        let licenses = licenses.map(|one| format!("{}:{}", one.name, one.count));
        licenses.collect::<Vec<_>>().join(",")
    }

    fn to_text(&self) -> Option<String> {
        let mut text = String::new();
        let licenses = (!self.licenses.is_empty()).then(|| self.show_licenses());
        let switches = self.switches.map(|wish| wish.to_string());
        let parts = [
            ("constraint", self.constraint.as_deref()),
            ("licenses", licenses.as_deref()),
            ("reservation", self.reservation.as_deref()),
            ("switches", switches.as_deref()),
        ];
        for (key, value) in parts {
            if let Some(value) = value {
                let between = if text.is_empty() { "" } else { ";" };
                // Writing to a text cannot fail.
                let _ = write!(text, "{between}{key}={value}");
            }
        }
        (!text.is_empty()).then_some(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!(
                "wishes of {} bytes, at most {TEXT_MAX}",
                text.len()
            ));
        }
        let mut wishes = Wishes::default();
        for part in text.split(';') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key {
                "constraint" => {
                    Constraint::parse(value)?;
                    wishes.constraint = Some(value.to_owned());
                }
                "licenses" => wishes.licenses = Wishes::parse_licenses(value)?,
                "reservation" => {
                    let noun = super::rules::Noun::Reservation;
                    Rules::check_name(noun, value).map_err(|refusal| refusal.what)?;
                    wishes.reservation = Some(value.to_owned());
                }
                "switches" => wishes.switches = Some(SwitchWish::parse(value)?),
                _ => {
                    return Err(format!(
                        "`{}` cannot be asked for",
                        super::text::excerpt(key)
                    ));
                }
            }
        }
        Ok(wishes)
    }
}

impl Serialize for Wishes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_text().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Wishes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        let wishes = text.map_or_else(|| Ok(Wishes::default()), |text| Wishes::from_text(&text));
        wishes.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_one_text_or_nothing() {
        let nothing = postcard::to_stdvec(&Wishes::default()).unwrap();
        assert_eq!(nothing, [0], "as an absent text");
        let all = Wishes {
            constraint: Some("fast&(a|b)".to_owned()),
            licenses: Wishes::parse_licenses("matlab:2,comsol,matlab").unwrap(),
            reservation: Some("course".to_owned()),
            switches: Some(SwitchWish {
                most: 2,
                wait_s: 300,
            }),
        };
        assert_eq!(all.show_licenses(), "comsol:1,matlab:3");
        let bytes = postcard::to_stdvec(&all).unwrap();
        assert_eq!(postcard::from_bytes::<Wishes>(&bytes).unwrap(), all);
        let text = all.to_text().unwrap();
        assert_eq!(postcard::from_bytes::<String>(&bytes[1..]).unwrap(), text);
        for text in [
            "fast",
            "constraint=",
            "licenses=a:0",
            "reservation=a b",
            "switches=0",
            "x=1",
            "",
        ] {
            let bytes = postcard::to_stdvec(&Some(text)).unwrap();
            assert!(postcard::from_bytes::<Wishes>(&bytes).is_err(), "{text}");
        }
    }
}
