//! `/livez`, `/readyz` and `/metrics`, for the admin listener of every service.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::{ALLOW, ContentType};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpResponse, HttpServer, Resource, Route, web};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use seckill_metrics::Metric;
use tokio_util::sync::CancellationToken;

use crate::answers;
use crate::health::Health;
use crate::metrics::{BUILD_INFO, METRICS, PROCESS_METRICS};

/// Latency buckets in seconds: half a millisecond to ten seconds.
const LATENCY_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0,
];

/// The process' health and metrics.
#[derive(Debug, Clone)]
pub struct Ops {
    /// What `/readyz` answers from.
    pub health: Health,
    metrics: PrometheusHandle,
}

impl Ops {
    /// Installs the metrics recorder of this process, and tells it what the service's own metrics mean
    /// and those that all services have. Histograms whose name ends in `_seconds` get latency buckets.
    ///
    /// # Errors
    /// A message when another recorder was installed before.
    pub fn install(service: &'static str, catalogues: &[&[Metric]]) -> Result<Self, String> {
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(
                Matcher::Suffix("_seconds".to_owned()),
                &LATENCY_BUCKETS_SECONDS,
            )
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|e| format!("metrics: {e}"))?;
        let all = [METRICS, PROCESS_METRICS].into_iter();
        all.chain(catalogues.iter().copied())
            .flatten()
            .for_each(Metric::describe);
        BUILD_INFO
            .with([service, env!("CARGO_PKG_VERSION")])
            .set(1.0);
        Ok(Self {
            health: Health::starting(),
            metrics,
        })
    }

    /// What `/metrics` says, but for the process' own figures.
    #[must_use]
    pub fn render(&self) -> String {
        self.metrics.render()
    }

    /// Adds the three routes to an actix application.
    pub fn routes(&self, config: &mut web::ServiceConfig) {
        config
            .app_data(web::Data::new(self.clone()))
            .service(resource("/livez", web::get().to(livez)))
            .service(resource("/readyz", web::get().to(readyz)))
            .service(resource("/metrics", web::get().to(metrics_text)));
    }

    /// Listens, and gives a future that serves only the three routes until `stop` is cancelled.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn serve(self, listen: SocketAddr, stop: CancellationToken) -> std::io::Result<Server> {
        let app = move || {
            App::new()
                .wrap(from_fn(answers::observe))
                .configure(|config| self.routes(config))
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .shutdown_signal(async move { stop.cancelled().await })
            .shutdown_timeout(1)
            .bind(listen)
            .map_err(|e| std::io::Error::new(e.kind(), format!("cannot listen on {listen}: {e}")))?
            .run();
        Ok(server)
    }

    /// Folds histogram samples away, so that they don't pile up when nobody scrapes. Runs until
    /// `stop` is cancelled.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                _ = ticks.tick() => self.metrics.run_upkeep(),
                () = stop.cancelled() => return,
            }
        }
    }
}

/// A path that is only read; any other method is answered with that.
fn resource(path: &str, get: Route) -> Resource {
    let other = || async {
        HttpResponse::MethodNotAllowed()
            .insert_header((ALLOW, "GET, HEAD"))
            .finish()
    };
    web::resource(path)
        .route(get)
        .default_service(web::to(other))
}

async fn livez() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::plaintext())
        .body("ok\n")
}

async fn readyz(ops: web::Data<Ops>) -> HttpResponse {
    let problems = ops.health.problems();
    if problems.is_empty() {
        HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable()
            .json(serde_json::json!({ "status": "not ready", "problems": problems }))
    }
}

async fn metrics_text(ops: web::Data<Ops>) -> HttpResponse {
    Collector::default().collect();
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(ops.metrics.render())
}
