//! Lists that arrive from outside, with a bound on their items: `#[serde(deserialize_with = "bounded::list")]`.
//!
//! The bound on a frame alone is not enough. An item of one or two bytes there takes up to a hundred in memory, so a
//! request of 16 MiB could make the controller allocate a gigabyte. Lists whose items are about as long on the wire
//! as in memory need none of this.

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// The most items: as many names as a host list, or jobs as an operand, may unfold to.
pub const ITEMS_MAX: usize = 65_536;

/// The most items of a list that is searched for every job of a cluster.
pub const FEW_ITEMS_MAX: usize = 1_024;

/// Reads a list of up to [`ITEMS_MAX`] items; one too many is an error.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Items::<T, ITEMS_MAX>(PhantomData))
}

/// Reads a list of up to [`FEW_ITEMS_MAX`] items; one too many is an error.
pub fn few<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Items::<T, FEW_ITEMS_MAX>(PhantomData))
}

struct Items<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MOST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MOST {
                return Err(Error::invalid_length(MOST + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Names {
        #[serde(deserialize_with = "list")]
        names: Vec<String>,
    }

    #[test]
    fn one_item_too_many_is_an_error() {
        let read = |count: usize| {
            let names = vec![String::new(); count];
            let bytes = postcard::to_stdvec(&Names { names }).unwrap();
            postcard::from_bytes::<Names>(&bytes).map(|read| read.names.len())
        };
        assert_eq!(read(0), Ok(0));
        assert_eq!(read(ITEMS_MAX), Ok(ITEMS_MAX));
        assert!(read(ITEMS_MAX + 1).is_err());
    }
}
