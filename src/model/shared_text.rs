//! Texts that many records have in common: a partition, a directory, a host.
//!
//! Ten thousand jobs of one user differ in their names and in little else. A [`Text`] is counted, so records that
//! came from one [`Texts`] pool share its bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));

/// A text that does not change, cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Arc<str>);

impl Text {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether nothing but this value holds the bytes.
    fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Default for Text {
    fn default() -> Self {
        Text(Arc::clone(&EMPTY))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text.is_empty() {
            Text::default()
        } else {
            Text(Arc::from(text))
        }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::from(text.as_str())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        Text::from(text.as_str())
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0.to_string()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl PartialEq<String> for Text {
    fn eq(&self, other: &String) -> bool {
        *self.0 == **other
    }
}

impl PartialEq<Text> for String {
    fn eq(&self, other: &Text) -> bool {
        **self == *other.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&*self.0, f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Text::from)
    }
}

/// Texts in the pool at which those that only the pool holds are dropped.
const POOL_MOST: usize = 16 * 1024;

/// A pool of texts in use.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    known: BTreeSet<Text>,
}

impl Texts {
    /// Makes `text` share its bytes with an equal one that was here before, or be the one that later ones share.
    pub fn share(&mut self, text: &mut Text) {
        if let Some(known) = self.known.get(text) {
            text.clone_from(known);
            return;
        }
        if self.known.len() >= POOL_MOST {
            self.known.retain(|text| !text.is_unshared());
            if self.known.len() >= POOL_MOST {
                return;
            }
        }
        self.known.insert(text.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_their_bytes_and_unused_ones_are_dropped() {
        let mut pool = Texts::default();
        let (mut one, mut two) = (Text::from("batch"), Text::from("batch"));
        assert!(!Arc::ptr_eq(&one.0, &two.0));
        pool.share(&mut one);
        pool.share(&mut two);
        assert!(Arc::ptr_eq(&one.0, &two.0));
        for at in 0..2 * POOL_MOST {
            pool.share(&mut Text::from(at.to_string()));
        }
        assert!(pool.known.len() <= POOL_MOST);
        let mut three = Text::from("batch");
        pool.share(&mut three);
        assert!(Arc::ptr_eq(&one.0, &three.0));
    }

    #[test]
    fn it_is_a_text_on_the_wire() {
        let bytes = postcard::to_stdvec(&Text::from("été")).unwrap();
        assert_eq!(bytes, postcard::to_stdvec("été").unwrap());
        assert_eq!(postcard::from_bytes::<Text>(&bytes).unwrap(), "été");
    }
}
