//! What many records have in common, kept once: a partition, a directory, an amount of resources.
//!
//! Ten thousand jobs of one user differ in their names and in little else. Such parts of a record are counted, so
//! records that passed through one [`Pool`] share them. A [`Text`] is the counted form of a `String`.

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

    /// Makes it share its bytes with an equal text of this pool.
    pub fn share(&mut self, pool: &mut Pool<str>) {
        pool.share(&mut self.0);
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

/// Values in a pool at which those that only the pool holds are dropped.
const POOL_MOST: usize = 16 * 1024;

/// Values in use, each once.
#[derive(Debug)]
pub struct Pool<T: ?Sized> {
    known: BTreeSet<Arc<T>>,
}

impl<T: ?Sized> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool {
            known: self.known.clone(),
        }
    }
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Pool {
            known: BTreeSet::new(),
        }
    }
}

impl<T: ?Sized + Ord> Pool<T> {
    /// Makes `value` an equal one that was here before, or the one that later ones become.
    pub fn share(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(value) {
            value.clone_from(known);
            return;
        }
        if self.known.len() >= POOL_MOST {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            if self.known.len() >= POOL_MOST {
                return;
            }
        }
        self.known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_their_bytes_and_unused_ones_are_dropped() {
        let mut pool = Pool::default();
        let (mut one, mut two) = (Text::from("batch"), Text::from("batch"));
        assert!(!Arc::ptr_eq(&one.0, &two.0));
        one.share(&mut pool);
        two.share(&mut pool);
        assert!(Arc::ptr_eq(&one.0, &two.0));
        for at in 0..2 * POOL_MOST {
            Text::from(at.to_string()).share(&mut pool);
        }
        assert!(pool.known.len() <= POOL_MOST);
        let mut three = Text::from("batch");
        three.share(&mut pool);
        assert!(Arc::ptr_eq(&one.0, &three.0));
    }

    #[test]
    fn it_is_a_text_on_the_wire() {
        let bytes = postcard::to_stdvec(&Text::from("été")).unwrap();
        assert_eq!(bytes, postcard::to_stdvec("été").unwrap());
        assert_eq!(postcard::from_bytes::<Text>(&bytes).unwrap(), "été");
    }
}
