//! A rung behind HTTP, as a web server with a pool of connections has it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use seckill_bench::client::{Endpoint, Pool};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::crowd::{Crowd, buy};
use crate::failure::Failure;
use crate::fault::Seller;
use crate::lab::Lab;
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::strategy::{Answer, Buyer, Strategy};

/// A server that sells one rung's units: `POST /<user>/<click>`.
#[derive(Debug)]
pub(crate) struct Shop {
    endpoint: Arc<Endpoint>,
    pool: Pool,
    _server: AbortOnDropHandle<()>,
}

impl Shop {
    /// Opens it on a free loopback port.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn open<S: Strategy>(rung: &Arc<S>, patience: Duration) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rung = Arc::clone(rung);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let rung = Arc::clone(&rung);
                let service = service_fn(move |request| {
                    let rung = Arc::clone(&rung);
                    async move { answer(&*rung, &request, patience).await }
                });
                // A client that has gone is no matter of the server's.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        let endpoint = Endpoint::resolve(&url).await?;
        Ok(Self {
            pool: Pool::new(Arc::clone(&endpoint)),
            endpoint,
            _server: AbortOnDropHandle::new(server),
        })
    }

    /// One click, by the client that the project's own services are called by.
    ///
    /// # Errors
    /// [`Failure::Refused`] when the answer's status is neither 2xx nor 409; when there is none.
    pub(crate) async fn click(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let path = format!("/{}/{}", buyer.user_id, buyer.click);
        let path: Uri = path.parse().context("a path")?;
        let call = self.endpoint.request(Method::POST, path, Bytes::new());
        let Ok(reply) = self.pool.call(call).await else {
            return Err(Failure::NoAnswer);
        };
        match reply.status {
            StatusCode::OK => Ok(Answer::Bought),
            StatusCode::CONFLICT => Ok(Answer::SoldOut),
            status => {
                let why = String::from_utf8_lossy(&reply.body);
                Err(Failure::Refused(format!("{} {why}", status.as_u16())))
            }
        }
    }
}

async fn answer<S: Strategy>(
    rung: &S,
    request: &Request<Incoming>,
    patience: Duration,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let numbers = request.uri().path().trim_matches('/').split_once('/');
    let buyer = numbers.and_then(|(user, click)| {
        let (user_id, click) = (user.parse().ok()?, click.parse().ok()?);
        Some(Buyer { user_id, click })
    });
    let told = match buyer {
        Some(buyer) => buy(rung, buyer, patience).await,
        None => Err(Failure::Refused(request.uri().to_string())),
    };
    let (status, why) = match told {
        Ok(Answer::Bought) => (StatusCode::OK, String::new()),
        Ok(Answer::SoldOut | Answer::Already) => (StatusCode::CONFLICT, String::new()),
        Err(failure) => (StatusCode::SERVICE_UNAVAILABLE, failure.to_string()),
    };
    let body = Full::new(Bytes::from(why));
    Response::builder().status(status).body(body)
}

/// The first buyer stands still at the gate with a connection in its hand, and the others who have one wait for it.
/// It goes on when all for whom there was none have been sent away.
///
/// # Errors
/// When the server cannot be opened.
pub(crate) async fn exhaust_pool<S: Strategy>(
    lab: &Arc<Lab>,
    plan: &Plan,
) -> Result<(Seller<S>, Crowd)> {
    let seller = Seller::<S>::open(lab).await?;
    let shop = Arc::new(Shop::open(&seller.rung, plan.patience).await?);
    let connections = plan.pool.context("a pool")?.connections;
    let away = Arc::new(AtomicUsize::new(0));
    let last = plan.buyers - connections;
    let click = |buyer| {
        let (shop, lab, away) = (Arc::clone(&shop), Arc::clone(lab), Arc::clone(&away));
        async move {
            let told = shop.click(buyer).await;
            if told.is_err() && away.fetch_add(1, Ordering::Relaxed) + 1 == last {
                lab.gate.let_go();
            }
            told
        }
    };
    let crowd = Crowd::send_by(click, Scenario::Pool, plan, 0..plan.buyers).await?;
    Ok((seller, crowd))
}

/// Buyers come by the clock. A rung that is not called over HTTP anyway is put behind it.
///
/// # Errors
/// When the server cannot be opened, or a rung panics.
pub(crate) async fn come_by_the_clock<S: Strategy>(
    lab: &Arc<Lab>,
    plan: &Plan,
) -> Result<(Seller<S>, Crowd)> {
    let seller = Seller::<S>::open(lab).await?;
    let everybody = 0..plan.buyers;
    let crowd = if lab.pipeline.is_some() {
        Crowd::send(&seller.rung, Scenario::Steady, plan, everybody).await?
    } else {
        let shop = Arc::new(Shop::open(&seller.rung, plan.patience).await?);
        let click = |buyer| {
            let shop = Arc::clone(&shop);
            async move { shop.click(buyer).await }
        };
        Crowd::send_by(click, Scenario::Steady, plan, everybody).await?
    };
    Ok((seller, crowd))
}
