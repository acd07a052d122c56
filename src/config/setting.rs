//! The value of a setting as TOML has it: a text, a number, yes or no, or a list of names. All are one text in the end,
//! as on the command line.

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use std::fmt;

/// A value as `KEY=VALUE` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingText(pub String);

impl<'de> Deserialize<'de> for SettingText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Value)
    }
}

struct Value;

impl<'de> Visitor<'de> for Value {
    type Value = SettingText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true or false, or a list of names")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SettingText, E> {
        Ok(SettingText(text.to_owned()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<SettingText, E> {
        Ok(SettingText(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<SettingText, E> {
        Ok(SettingText(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<SettingText, E> {
        Ok(SettingText(value.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<SettingText, A::Error> {
        let mut list: Vec<String> = Vec::new();
        while let Some(name) = names.next_element()? {
            list.push(name);
        }
        Ok(SettingText(list.join(",")))
    }
}
