//! A schema registry in this process, with the part of Confluent's API that is used here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http_server::{HttpServer, Request};

/// It keeps its data while it does not answer.
#[derive(Debug)]
pub struct SchemaRegistry {
    port: u16,
    content: Arc<Mutex<Content>>,
    /// None while it does not answer.
    server: Option<HttpServer>,
}

#[derive(Debug, Default)]
struct Content {
    login: Option<String>,
    first_id: u32,
    /// Each schema once. The first one has the first id.
    schemas: Vec<Value>,
    /// For each subject, the indexes of its versions' schemas.
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
    /// A registry without a login. No other registry uses the same ids.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn start() -> Result<Self> {
        Self::open(None)
    }

    /// A registry that needs a login: `user:password` in base64.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_login(login: &str) -> Result<Self> {
        Self::open(Some(format!("Basic {login}")))
    }

    fn open(login: Option<String>) -> Result<Self> {
        let content = Content {
            login,
            // There is room for its ids, and they are not those of a registry that counts from 1.
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

    /// For `SCHEMA_REGISTRY_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Stops to answer.
    pub fn go_away(&mut self) {
        self.server = None;
    }

    /// Answers again, at the same address.
    ///
    /// # Errors
    /// When another process has taken its port.
    pub fn come_back(&mut self) -> Result<()> {
        let content = Arc::clone(&self.content);
        let server = HttpServer::start(self.port, move |request| answer(&content, &request))?;
        self.port = server.port();
        self.server = Some(server);
        Ok(())
    }

    /// Adds a version to a subject, as another team would do. Returns its id.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn add(&self, subject: &str, schema: &str) -> Result<u32> {
        let schema = serde_json::from_str(schema)?;
        Ok(self.lock().add(subject, schema))
    }

    /// Sets the compatibility level of a subject, as another team would do.
    pub fn demand(&self, subject: &str, level: &str) {
        self.lock().levels.insert(subject.to_owned(), level.into());
    }

    /// The next id that it will give.
    #[must_use]
    pub fn next_id(&self) -> u32 {
        let content = self.lock();
        content.id(content.schemas.len())
    }

    /// The number of requests that it has received.
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
