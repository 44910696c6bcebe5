//! A schema registry in this process, as far as Confluent's API is used here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_server::{HttpServer, Request};

/// It keeps what it has while it is away.
#[derive(Debug)]
pub struct SchemaRegistry {
    port: u16,
    content: Arc<Mutex<Content>>,
    /// None while it is away.
    server: Option<HttpServer>,
}

#[derive(Debug, Default)]
struct Content {
    login: Option<String>,
    first_id: u32,
    /// Each text once; the first has the first id.
    schemas: Vec<Value>,
    /// Of each subject the places of its versions' texts.
    subjects: BTreeMap<String, Vec<usize>>,
    levels: BTreeMap<String, Value>,
    asked: usize,
}

impl Content {
    fn id(&self, place: usize) -> u32 {
        self.first_id + u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn add(&mut self, subject: &str, schema: Value) -> u32 {
        let known = self.schemas.iter().position(|s| *s == schema);
        let place = known.unwrap_or_else(|| {
            self.schemas.push(schema);
            self.schemas.len() - 1
        });
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&place) {
            versions.push(place);
        }
        self.id(place)
    }
}

impl SchemaRegistry {
    /// One that everybody may ask. No other has the same ids.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start() -> Result<Self> {
        Self::open(None)
    }

    /// One that wants a login, `user:password` in base64.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_login(login: &str) -> Result<Self> {
        Self::open(Some(format!("Basic {login}")))
    }

    fn open(login: Option<String>) -> Result<Self> {
        let content = Content {
            login,
            // Room for its ids, and none that a registry that counts from 1 has.
            first_id: (Uuid::new_v4().as_fields().0 >> 2 | 0x1000) & !0xfff,
            ..Content::default()
        };
        let mut registry = Self {
            port: 0,
            content: Arc::new(Mutex::new(content)),
            server: None,
        };
        registry.come_back()?;
        Ok(registry)
    }

    /// What `SCHEMA_REGISTRY_URL` is to be.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Nobody answers any more.
    pub fn go_away(&mut self) {
        self.server = None;
    }

    /// It answers again, at the same address.
    ///
    /// # Errors
    /// When somebody has taken its port.
    pub fn come_back(&mut self) -> Result<()> {
        let content = Arc::clone(&self.content);
        let server = HttpServer::start(self.port, move |request| answer(&content, &request))?;
        self.port = server.port();
        self.server = Some(server);
        Ok(())
    }

    /// Another team adds a version to a subject; its id.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn add(&self, subject: &str, schema: &str) -> Result<u32> {
        let schema = serde_json::from_str(schema)?;
        Ok(self.lock().add(subject, schema))
    }

    /// Another team sets what a subject's versions have to be to each other.
    pub fn demand(&self, subject: &str, level: &str) {
        self.lock().levels.insert(subject.to_owned(), level.into());
    }

    /// The next id that it will give.
    #[must_use]
    pub fn next_id(&self) -> u32 {
        let content = self.lock();
        content.id(content.schemas.len())
    }

    /// How many requests have come.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        lock(&self.content)
    }
}

fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(content: &Mutex<Content>, request: &Request) -> (u16, String) {
    let mut content = lock(content);
    content.asked += 1;
    let (status, body) =
        if content.login.is_some() && content.login.as_deref() != request.header("authorization") {
            (401, json!({ "error_code": 401, "message": "Unauthorized" }))
        } else {
            respond(&mut content, request)
        };
    (status, body.to_string())
}

fn respond(content: &mut Content, request: &Request) -> (u16, Value) {
    let missing = || (404, json!({ "error_code": 40403, "message": "not found" }));
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let schema = || serde_json::from_str::<Value>(body["schema"].as_str().unwrap_or("")).ok();
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let found = match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["schemas", "ids", id]) => id
            .parse()
            .ok()
            .and_then(|id: u32| id.checked_sub(content.first_id))
            .and_then(|place| content.schemas.get(place as usize))
            .map(|schema| json!({ "schema": schema.to_string() })),
        ("POST", ["subjects", subject]) => schema().and_then(|schema| {
            let places = content.subjects.get(*subject)?;
            let place = *places
                .iter()
                .find(|place| content.schemas[**place] == schema)?;
            Some(json!({ "id": content.id(place), "subject": subject }))
        }),
        ("POST", ["subjects", subject, "versions"]) => {
            schema().map(|schema| json!({ "id": content.add(subject, schema) }))
        }
        ("GET", ["subjects", subject, "versions"]) => content
            .subjects
            .get(*subject)
            .map(|versions| (1..=versions.len()).collect()),
        ("GET", ["subjects", subject, "versions", number]) => number
            .parse()
            .ok()
            .and_then(|number: usize| content.subjects.get(*subject)?.get(number.checked_sub(1)?))
            .map(|place| json!({ "schema": content.schemas[*place].to_string() })),
        ("GET", ["config"]) => Some(json!({ "compatibilityLevel": "BACKWARD" })),
        ("GET", ["config", subject]) => content
            .levels
            .get(*subject)
            .map(|level| json!({ "compatibilityLevel": level })),
        ("PUT", ["config", subject]) => {
            let level = body["compatibility"].clone();
            content.levels.insert((*subject).to_owned(), level);
            Some(body)
        }
        _ => None,
    };
    found.map_or_else(missing, |body| (200, body))
}
