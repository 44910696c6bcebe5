//! A process' own copies over the cache in Redis over the source.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::SharedCache;
use crate::kind::{Key, Kind};

/// An old value is asked for again this much sooner.
const OLD_DIVISOR: u32 = 5;

/// All entries of one kind. Requests for the same entry that come together are one.
pub struct Tiered<T> {
    kind: &'static Kind,
    shared: SharedCache,
    local: Cache<Key, Local<T>>,
    /// Counts what was dropped: a copy that was under way then is dropped, too.
    drops: AtomicU64,
}

struct Local<T> {
    value: Option<Arc<T>>,
    keep: Duration,
}

impl<T> Clone for Local<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            keep: self.keep,
        }
    }
}

struct Keep;

impl<T> Expiry<Key, Local<T>> for Keep {
    fn expire_after_create(&self, _: &Key, local: &Local<T>, _: Instant) -> Option<Duration> {
        Some(local.keep)
    }
}

impl<T> Tiered<T>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Entries of `kind` in `shared`.
    #[must_use]
    pub fn new(kind: &'static Kind, shared: SharedCache) -> Self {
        Self {
            kind,
            shared,
            local: Cache::builder()
                .max_capacity(kind.local_entries)
                .expire_after(Keep)
                .build(),
            drops: AtomicU64::new(0),
        }
    }

    /// The value under a key; `build` makes it from the source, for all who ask meanwhile, here and
    /// on other instances. None: there is no such thing.
    ///
    /// # Errors
    /// Those of `build`.
    pub async fn get<E, F, B>(&self, key: &Key, build: F) -> Result<Option<Arc<T>>, E>
    where
        E: Display + Clone + Send + Sync + 'static,
        F: Fn() -> B + Clone + Send + Sync + 'static,
        B: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let drops = self.drops.load(Ordering::Acquire);
        // Boxed: the cache would hold several copies of the whole way to the source.
        let read = Box::pin(async {
            let answer = self.shared.get(self.kind, key, &build).await?;
            let keep = match (&answer.value, answer.is_old) {
                (None, _) => self.kind.null,
                (Some(_), true) => self.kind.local / OLD_DIVISOR,
                (Some(_), false) => self.kind.local,
            };
            let value = answer.value.map(Arc::new);
            Ok::<_, E>(Local { value, keep })
        });
        let local = self.local.try_get_with_by_ref(key, read).await;
        if self.drops.load(Ordering::Acquire) != drops {
            self.local.invalidate(key).await;
        }
        local
            .map(|local| local.value)
            .map_err(|error: Arc<E>| Arc::unwrap_or_clone(error))
    }

    /// Forgets this process' copy.
    pub async fn drop_copy(&self, key: &Key) {
        self.drops.fetch_add(1, Ordering::AcqRel);
        self.local.invalidate(key).await;
    }
}

impl<T> fmt::Debug for Tiered<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("kind", &self.kind.name)
            .finish_non_exhaustive()
    }
}
