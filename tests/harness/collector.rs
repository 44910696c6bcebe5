//! What a collector of OpenTelemetry sees: spans, as the services send them over OTLP.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A span, in hexadecimal digits and words.
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
    /// Why it failed; empty if it did not.
    pub error: String,
}

/// A collector. It listens for as long as the test's runtime lives.
#[derive(Debug, Clone)]
pub struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Listens on a port of its own.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let collector = Self {
            endpoint: format!("http://{}", listener.local_addr()?),
            spans: Arc::default(),
        };
        let spans = Arc::clone(&collector.spans);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let spans = Arc::clone(&spans);
                tokio::spawn(async move {
                    // A service that is killed leaves half a request.
                    let _ = serve(stream, &spans).await;
                });
            }
        });
        Ok(collector)
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has come so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The spans of one trace, each with the name of what it follows from, as lines in alphabetical order.
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

/// Requests of one connection.
async fn serve(stream: TcpStream, spans: &Mutex<Vec<Span>>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut head) = (0, String::new());
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
            head += &line;
        }
        ensure!(head.starts_with("POST /v1/traces "), "{head}");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let sent = ExportTraceServiceRequest::decode(&*body).context("no OTLP")?;
        spans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(read(sent));
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await?;
    }
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
