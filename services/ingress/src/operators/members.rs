//! The members of a JSON body before they are checked.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// A body in which no member occurs twice, because JSON readers differ in which of the two they use.
#[derive(Debug)]
pub(super) struct Members(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.contains_key(&name) {
                        return Err(A::Error::custom(format!("{name:?} stands there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_there_twice_is_refused() {
        let read = |json: &str| serde_json::from_str::<Members>(json);
        assert_eq!(read(r#"{"stock":1,"title":"x"}"#).unwrap().0.len(), 2);
        for bad in [r#"{"stock":1,"stock":1000}"#, "[1]", "1", "null"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
