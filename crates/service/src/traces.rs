//! Spans, sent over OTLP where an endpoint is set; otherwise every call here is one look at a flag.
//!
//! A span is made when its work has ended: where it belongs is in the trace context that travels with the
//! work anyway, through Redis and Kafka too. So an order that nobody traces carries nothing more, and a request
//! that failed can be sent even if its trace was not picked.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use seckill_domain::{OrderId, TraceParent};
use uuid::Uuid;

use crate::settings::Reader;

pub use opentelemetry::trace::SpanKind as Kind;

/// Links of one span; a batch may serve more.
pub const LINKS_MAX: usize = 32;
/// What is left is sent within this time when the process ends.
const LAST_SPANS: Duration = Duration::from_secs(1);

static EXPORT: OnceLock<Export> = OnceLock::new();

#[derive(Debug)]
struct Export {
    processor: BatchSpanProcessor,
    share: f64,
}

/// Where spans go, and of which traces.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: a collector's OTLP address over HTTP. None: no spans.
    pub endpoint: Option<String>,
    /// `OTEL_TRACES_SAMPLER_ARG`: the share of the traces that begin here; a caller's decision is kept.
    pub share: f64,
}

impl TraceSettings {
    /// Reads and checks both. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let endpoint = reader.optional::<String>("OTEL_EXPORTER_OTLP_ENDPOINT");
        let endpoint = reader.accept("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, |endpoint| {
            match endpoint {
                Some(url) if !url.starts_with("http://") => Err(
                    "it is the address of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318"
                        .to_owned(),
                ),
                _ => Ok(()),
            }
        });
        let share = reader.or("OTEL_TRACES_SAMPLER_ARG", 0.01);
        let share = reader.accept("OTEL_TRACES_SAMPLER_ARG", share, |share| {
            let is_share = (0.0..=1.0).contains(share);
            is_share
                .then_some(())
                .ok_or_else(|| "it is a share, from 0 to 1".to_owned())
        });
        Some(Self {
            endpoint: endpoint?,
            share: share?,
        })
    }

    /// Sends spans from now on, if there is somewhere to send them to.
    ///
    /// # Errors
    /// A message when the client cannot be made.
    pub fn start(&self, service: &'static str) -> Result<(), String> {
        let Some(endpoint) = &self.endpoint else {
            return Ok(());
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}"))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let resource = Resource::builder()
            .with_service_name(format!("seckill-{service}"))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        processor.set_resource(&resource.build());
        let share = self.share;
        // Whoever was there before in this process sends for both.
        let _ = EXPORT.set(Export { processor, share });
        Ok(())
    }
}

/// Sends what is left, and no more.
pub async fn finish() {
    let sent = tokio::task::spawn_blocking(|| {
        EXPORT.get().map_or(Ok(()), |export| {
            export.processor.shutdown_with_timeout(LAST_SPANS)
        })
    });
    if let Ok(Err(error)) = sent.await {
        tracing::debug!(%error, "the last spans were not sent");
    }
}

/// Whether a trace's spans are wanted.
#[must_use]
pub fn wants(trace: TraceParent) -> bool {
    EXPORT.get().is_some() && trace.is_sampled()
}

/// The id of a span that others follow from; 0 where nobody wants to know.
#[must_use]
pub fn span_id(trace: TraceParent) -> u64 {
    if wants(trace) { trace.ids().1 } else { 0 }
}

/// A trace that begins here. It is not sampled where no spans are sent: others would record a trace without a root.
#[must_use]
pub fn begin() -> TraceParent {
    let random = Uuid::new_v4().as_u128();
    let trace = TraceParent::generate(random, new_span());
    let picked = |export: &Export| (random >> 64) as f64 / 2f64.powi(64) < export.share;
    if EXPORT.get().is_some_and(picked) {
        trace
    } else {
        trace.unsampled()
    }
}

/// The context of a request, which has a span of its own even if its trace is not sent: the span of a failure
/// is sent in any case.
#[must_use]
pub fn of_request(caller: Option<TraceParent>) -> TraceParent {
    match caller {
        Some(caller) if EXPORT.get().is_some() => caller.child(new_span()),
        Some(caller) => caller,
        None => begin(),
    }
}

/// The context of work that follows from a span: the span's own where nothing of it is sent.
#[must_use]
pub fn child(parent: TraceParent) -> TraceParent {
    if wants(parent) {
        parent.child(new_span())
    } else {
        parent
    }
}

fn new_span() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}

/// The span that stands for an order, in a trace of its own. Payments, cancellations and expiries come in
/// traces of their own and link to it, and so need to know the order's id only.
#[must_use]
pub fn of_order(order: OrderId) -> TraceParent {
    let id = order.as_uuid();
    TraceParent::generate(id.as_u128(), id.as_u64_pair().1)
}

/// Work that has ended.
#[derive(Debug)]
pub struct Span {
    /// What was done.
    pub name: Cow<'static, str>,
    /// Which part this side has.
    pub kind: SpanKind,
    /// Its place in its trace.
    pub context: TraceParent,
    /// What it follows from, in the same trace.
    pub parent: Option<TraceParent>,
    /// When it began.
    pub began: SystemTime,
    /// More about it.
    pub attributes: Vec<KeyValue>,
    /// Other traces' spans that it has to do with, at most [`LINKS_MAX`].
    pub links: Vec<TraceParent>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Span {
    /// Without attributes and links.
    #[must_use]
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
        context: TraceParent,
        parent: Option<TraceParent>,
        began: SystemTime,
    ) -> Self {
        Self {
            name: name.into(),
            kind,
            context,
            parent,
            began,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    /// With one attribute more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(name, value));
        self
    }

    /// With a link to each of these but what it follows from: the causes of a batch, or another trace.
    #[must_use]
    pub fn linked(mut self, to: impl IntoIterator<Item = TraceParent>) -> Self {
        let others = to.into_iter().filter(|cause| self.parent != Some(*cause));
        self.links.extend(others.take(LINKS_MAX));
        self
    }

    /// With why it failed.
    #[must_use]
    pub fn failed(mut self, why: impl Into<String>) -> Self {
        self.error = Some(why.into());
        self
    }

    /// Sends it: the work has ended now. What failed is sent in any case.
    pub fn end(self) {
        let Some(export) = EXPORT.get() else { return };
        if !self.context.is_sampled() && self.error.is_none() {
            return;
        }
        let mut links = SpanLinks::default();
        let to = self.links.into_iter().map(context);
        links.links = to
            .map(|context| Link::new(context, Vec::new(), 0))
            .collect();
        let parent_span_id = self
            .parent
            .map_or(SpanId::INVALID, |parent| context(parent).span_id());
        export.processor.on_end(SpanData {
            span_context: context(self.context),
            parent_span_id,
            parent_span_is_remote: false,
            span_kind: self.kind,
            name: self.name,
            start_time: self.began,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("seckill").build(),
        });
    }
}

fn context(trace: TraceParent) -> SpanContext {
    let (trace_id, span_id) = trace.ids();
    SpanContext::new(
        TraceId::from(trace_id),
        SpanId::from(span_id),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_begins_where_no_spans_are_sent_is_not_sampled() {
        let (first, second) = (begin(), begin());
        assert!(!first.is_sampled());
        assert_ne!(first.ids().0, second.ids().0);
    }
}
