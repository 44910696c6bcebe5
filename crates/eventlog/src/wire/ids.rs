//! Which schema of this project each id of a registry means.
//!
//! A process has one registry, and the meaning of an id never changes. So the ids are stored once for all decoders
//! of the process, and looking one up takes no lock.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::wire::error::{DecodeError, SchemaError};
use crate::wire::schemas::{Version, id_in, version_of};

/// A registry has one id for a schema's text, and there are some dozen schemas.
const MAX_IDS: usize = 256;
/// Reasons are stored for at most so many ids, because random bytes can look like an id.
const MAX_REASONS: usize = 1_000;

/// Filled from the front. Most logs need only the first few.
static KNOWN: [OnceLock<(u32, &'static Version)>; MAX_IDS] = [const { OnceLock::new() }; MAX_IDS];

/// Why other ids are not known, by what the registry said of them last.
static REASONS: LazyLock<Mutex<HashMap<u32, String>>> = LazyLock::new(Mutex::default);

fn reasons() -> MutexGuard<'static, HashMap<u32, String>> {
    REASONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a message under this id was written with.
pub(crate) fn known(id: u32) -> Result<&'static Version, DecodeError> {
    look_up(id).ok_or_else(|| {
        let why = reasons().get(&id).cloned();
        DecodeError::UnknownSchemaId {
            id,
            why: why
                .unwrap_or_else(|| "no schema registry is set (SCHEMA_REGISTRY_URL)".to_owned()),
        }
    })
}

/// The id in a message's framing, if it is framed so and the id is not known.
pub(crate) fn unknown_in(payload: Option<&[u8]>) -> Option<u32> {
    payload.and_then(id_in).filter(|id| !is_known(*id))
}

/// Whether a message under this id can be read.
pub(crate) fn is_known(id: u32) -> bool {
    look_up(id).is_some()
}

fn look_up(id: u32) -> Option<&'static Version> {
    let filled = KNOWN.iter().map_while(OnceLock::get);
    filled
        .into_iter()
        .find(|(known, _)| *known == id)
        .map(|(_, version)| *version)
}

/// Stores that `id` means the schema `json`.
pub(crate) fn learn(id: u32, json: &str) -> Result<(), SchemaError> {
    let version = version_of(json)?;
    let is_placed = KNOWN
        .iter()
        .any(|slot| slot.get_or_init(|| (id, version)).0 == id);
    if is_placed {
        Ok(())
    } else {
        Err(SchemaError::TooMany)
    }
}

/// Why `id` is not known, until it is.
pub(crate) fn explain(id: u32, why: String) {
    let mut reasons = reasons();
    if reasons.len() >= MAX_REASONS {
        reasons.clear();
    }
    reasons.insert(id, why);
}
