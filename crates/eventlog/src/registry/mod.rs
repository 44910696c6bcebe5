//! A schema registry with Confluent's API: what its ids stand for, and which of them are written.
//!
//! The registry is asked when a service starts, and when a new id is read. Everything else is stored in memory: while
//! the registry is unavailable, a service can read and write with all schemas that it has used before.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
pub use seckill_http_client::Misconfigured;
use seckill_http_client::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use seckill_http_client::{
    Bytes, HeaderMap, HeaderName, HeaderValue, HttpClient, Limits, Method, StatusCode,
};
use serde_json::{Value, json};

use crate::wire::{ids, schemas};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(3),
    answer_bytes: 1 << 20,
};
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/vnd.schemaregistry.v1+json");
const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/vnd.schemaregistry.v1+json, application/json");

/// After an id was not found, it is not asked for again for this long.
const ASK_AGAIN: Duration = Duration::from_millis(900);

/// Why the registry did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It does not answer.
    #[error("the schema registry at {url} does not answer: {cause}")]
    Away {
        /// Where it was asked.
        url: String,
        /// The error.
        cause: String,
    },
    /// It answers with an error.
    #[error("the schema registry at {url} refuses with status {status}: {message}")]
    Refused {
        /// Where it was asked.
        url: String,
        /// HTTP's.
        status: u16,
        /// The text of its answer.
        message: String,
    },
    /// A schema that is written is not registered.
    #[error(
        "{subject} is not in the schema registry in the version that is written here: run `seckillctl schemas register`"
    )]
    NotRegistered {
        /// The subject.
        subject: String,
    },
}

/// Where a schema registry with Confluent's API is, and how one signs in there.
#[derive(Clone)]
pub struct RegistrySettings {
    /// `http://` or `https://`, with the path that the API is under, and without a login.
    pub url: String,
    /// User and password.
    pub login: Option<(String, String)>,
    /// A PEM file with the certificate authorities of the registry. None: those that the system trusts.
    pub ca: Option<PathBuf>,
}

/// A client of a registry. Clones share one client.
#[derive(Clone)]
pub struct SchemaRegistry(Arc<Inner>);

struct Inner {
    http: HttpClient,
    /// The headers of every request.
    headers: HeaderMap,
    /// The ids that are written, by the record's name.
    written: OnceLock<HashMap<String, u32>>,
    /// When ids that are not known were asked for. Held while the registry is asked: an id is asked for once.
    asked: Mutex<HashMap<u32, Instant>>,
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchemaRegistry")
            .field(&self.0.http.url())
            .finish()
    }
}

/// Two are the same if one is a clone of the other.
impl PartialEq for SchemaRegistry {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SchemaRegistry {}

impl SchemaRegistry {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// Which setting is wrong, and why.
    pub fn new(settings: &RegistrySettings) -> Result<Self, Misconfigured> {
        let RegistrySettings { url, login, ca } = settings;
        let mut headers = HeaderMap::from_iter([(ACCEPT, ACCEPTED), (CONTENT_TYPE, MEDIA_TYPE)]);
        headers.extend(login.as_ref().map(authorization));
        Ok(Self(Arc::new(Inner {
            http: HttpClient::new(url, ca.as_deref(), LIMITS)?,
            headers,
            written: OnceLock::new(),
            asked: Mutex::default(),
        })))
    }

    /// The ids that are written from now on, by the record's name.
    pub(crate) fn write_with(&self, ids: HashMap<String, u32>) {
        let _ = self.0.written.set(ids);
    }

    /// Puts the id of the schema of `record` into a message of ours; false where the registry has not told it.
    pub(crate) fn frame(&self, record: &str, message: &mut Vec<u8>) -> bool {
        let id = self.0.written.get().and_then(|ids| ids.get(record));
        id.is_some_and(|id| {
            schemas::put_id(message, *id);
            true
        })
    }

    /// Has a thread that may wait ask for the id in a message, if it is not known.
    pub(crate) fn meet_message(registry: Option<&Self>, payload: Option<&[u8]>) {
        if let (Some(registry), Some(id)) = (registry, ids::unknown_in(payload)) {
            registry.meet_blocking(vec![id]);
        }
    }

    /// Asks what these ids stand for, those of them that are not known, but none more often than
    /// once in a second. Says which still are not.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn meet(&self, ids: Vec<u32>) -> Vec<u32> {
        if ids.is_empty() {
            return ids;
        }
        let (registry, all) = (self.clone(), ids.clone());
        let met = tokio::task::spawn_blocking(move || registry.meet_blocking(ids));
        met.await.unwrap_or(all)
    }

    /// The same for threads that may wait.
    pub(crate) fn meet_blocking(&self, mut unknown: Vec<u32>) -> Vec<u32> {
        if unknown.is_empty() {
            return unknown;
        }
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.retain(|id| !ids::is_known(*id));
        let is_due = |at: &Instant| at.elapsed() >= ASK_AGAIN;
        for id in &unknown {
            if asked.get(id).is_none_or(is_due) {
                if let Err(why) = self.learn_blocking(*id) {
                    tracing::warn!(id, why, "a schema id is not known yet");
                    ids::explain(*id, why);
                }
                asked.retain(|_, at| !is_due(at));
                asked.insert(*id, Instant::now());
            }
        }
        unknown.retain(|id| !ids::is_known(*id));
        unknown
    }

    fn learn_blocking(&self, id: u32) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let schema = runtime
            .block_on(self.schema(id))
            .map_err(|e| e.to_string())?;
        let schema = schema.ok_or_else(|| format!("{self:?} does not have it"))?;
        ids::learn(id, &schema).map_err(|e| e.to_string())
    }

    /// The text of the schema of this id, if it has one.
    async fn schema(&self, id: u32) -> Result<Option<String>, RegistryError> {
        let answer = self.get(&format!("/schemas/ids/{id}")).await?;
        Ok(answer.and_then(|body| Some(body["schema"].as_str()?.to_owned())))
    }

    /// The id under which a subject has this very text; none if it has not.
    pub(crate) async fn id_of(
        &self,
        subject: &str,
        json: &str,
    ) -> Result<Option<u32>, RegistryError> {
        let path = format!("/subjects/{subject}");
        let answer = self
            .ask(Method::POST, &path, Some(&json!({ "schema": json })))
            .await?;
        let id = answer.and_then(|body| body["id"].as_u64());
        Ok(id.and_then(|id| u32::try_from(id).ok()))
    }

    /// Adds a version to a subject, if it has not this very text already; the id.
    pub(crate) async fn add(&self, subject: &str, json: &str) -> Result<u32, RegistryError> {
        let path = format!("/subjects/{subject}/versions");
        let body = json!({ "schema": json });
        let answer = self.ask(Method::POST, &path, Some(&body)).await?;
        let id = answer.and_then(|body| u32::try_from(body["id"].as_u64()?).ok());
        id.ok_or_else(|| self.strange("an id"))
    }

    /// The texts of all versions of a subject, the oldest first.
    pub(crate) async fn versions(&self, subject: &str) -> Result<Vec<String>, RegistryError> {
        let path = format!("/subjects/{subject}/versions");
        let Some(numbers) = self.get(&path).await? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for number in numbers.as_array().into_iter().flatten() {
            let version = self.get(&format!("{path}/{number}")).await?;
            let schema = version.and_then(|body| Some(body["schema"].as_str()?.to_owned()));
            found.push(schema.ok_or_else(|| self.strange("a schema"))?);
        }
        Ok(found)
    }

    /// What a subject's versions have to be to each other.
    pub(crate) async fn compatibility(
        &self,
        subject: &str,
    ) -> Result<Option<String>, RegistryError> {
        for path in [format!("/config/{subject}"), "/config".to_owned()] {
            if let Some(body) = self.get(&path).await? {
                let level = body["compatibilityLevel"].as_str();
                return Ok(level.map(str::to_owned));
            }
        }
        Ok(None)
    }

    /// Sets that.
    pub(crate) async fn demand(&self, subject: &str, level: &str) -> Result<(), RegistryError> {
        let path = format!("/config/{subject}");
        let body = json!({ "compatibility": level });
        self.ask(Method::PUT, &path, Some(&body)).await.map(drop)
    }

    async fn get(&self, path: &str) -> Result<Option<Value>, RegistryError> {
        self.ask(Method::GET, path, None).await
    }

    /// The body of the answer; none where it says that there is no such thing.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, RegistryError> {
        let url = || self.0.http.url().to_owned();
        let body = body.map(|body| Bytes::from(body.to_string()));
        let headers = self.0.headers.clone();
        let asked = self
            .0
            .http
            .ask(method, path, headers, body.unwrap_or_default());
        let answer = asked.await.map_err(|error| RegistryError::Away {
            url: url(),
            cause: error.to_string(),
        })?;
        // The answer of a proxy in between may not be JSON.
        let text = || Value::String(String::from_utf8_lossy(&answer.body).trim().to_owned());
        let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| text());
        if answer.status.is_success() {
            return Ok(Some(body));
        }
        // This 404 is about the path: it does not come from the registry.
        if answer.status == StatusCode::NOT_FOUND && body["error_code"].is_i64() {
            return Ok(None);
        }
        let message = body["message"].as_str().or_else(|| body.as_str());
        Err(RegistryError::Refused {
            url: url(),
            status: answer.status.as_u16(),
            message: message.unwrap_or("no reason").chars().take(300).collect(),
        })
    }

    fn strange(&self, wanted: &str) -> RegistryError {
        RegistryError::Away {
            url: self.0.http.url().to_owned(),
            cause: format!("its answer has not {wanted}"),
        }
    }
}

fn authorization((user, password): &(String, String)) -> (HeaderName, HeaderValue) {
    let login = STANDARD.encode(format!("{user}:{password}"));
    let value = HeaderValue::from_str(&format!("Basic {login}"));
    let mut value = value.expect("Base64 has no character that a header must not have");
    value.set_sensitive(true);
    (AUTHORIZATION, value)
}
