//! A collector of OpenTelemetry: it receives the spans that the services send over OTLP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use seckill_testkit::http_server::{HttpServer, Request};

/// A span. Its ids are hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name`.
    pub service: String,
    pub trace: String,
    pub id: String,
    /// Empty for the first of a trace.
    pub parent: String,
    pub name: String,
    pub attributes: HashMap<String, String>,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// Why it failed. Empty if it did not.
    pub error: String,
}

/// A collector. It listens until it is dropped.
#[derive(Debug)]
pub struct Collector {
    server: HttpServer,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub fn start() -> Result<Self> {
        let spans = Arc::default();
        let received = Arc::clone(&spans);
        let server = HttpServer::start(0, move |request| receive(&request, &received))?;
        Ok(Self { server, spans })
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.server.url()
    }

    /// The spans that it has received so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of one trace as lines in alphabetical order, each with the name of its parent.
    #[must_use]
    pub fn tree(&self, trace: &str) -> Vec<String> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        let parent = |span: &Span| {
            let found = spans.iter().find(|other| other.id == span.parent);
            found.map_or_else(|| span.parent.clone(), |found| found.name.clone())
        };
        let line = |span: &Span| format!("{}: {} < {}", span.service, span.name, parent(span));
        let mut lines: Vec<_> = spans.iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn receive(request: &Request, spans: &Mutex<Vec<Span>>) -> (u16, String) {
    assert_eq!((&*request.method, &*request.path), ("POST", "/v1/traces"));
    let sent = ExportTraceServiceRequest::decode(&*request.body).expect("spans as protobuf");
    let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
    spans.extend(read(sent));
    (200, String::new())
}

fn read(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap_or_default().attributes;
        let service = texts(attributes).remove("service.name").unwrap_or_default();
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            let links = span.links.iter();
            spans.push(Span {
                service: service.clone(),
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                name: span.name,
                attributes: texts(span.attributes),
                links: links
                    .map(|link| (hex::encode(&link.trace_id), hex::encode(&link.span_id)))
                    .collect(),
                error: span.status.unwrap_or_default().message,
            });
        }
    }
    spans
}

fn texts(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |value| match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = attributes.into_iter();
    pairs
        .map(|pair| (pair.key, text(pair.value.and_then(|value| value.value))))
        .collect()
}
