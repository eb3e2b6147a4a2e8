//! The number of the layout of `handover.json`. A file of a later version is not understood.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SCHEMA: u32 = 2;

/// The number of this version's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schema;

impl Serialize for Schema {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(SCHEMA)
    }
}

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Schema, D::Error> {
        match u32::deserialize(deserializer)? {
            SCHEMA => Ok(Schema),
            other => Err(D::Error::custom(format!("it is of schema {other}, and this version knows {SCHEMA} at most"))),
        }
    }
}
