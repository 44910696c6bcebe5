//! This project, over HTTP, as a buyer's client speaks to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderValue};
use seckill_bench::answer::Answer as Told;
use seckill_bench::load::Reply;
use seckill_domain::VoucherId;
use tokio::time::sleep;

use crate::failure::Failure;
use crate::lab::{Lab, RoundTrips};
use crate::pipeline::Pipeline;
use crate::scenario::{Expected, Verdict};
use crate::strategy::{Accepted, Answer, Buyer, Card, Strategy};

/// Between two attempts of a client that has been told to come again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const POLL: Duration = Duration::from_millis(20);
/// A service is started again, or a sale is loaded again, within that.
const RECOVERY: Duration = Duration::from_secs(30);

/// Reserve in Redis, the log, the fold.
#[derive(Debug)]
pub(super) struct ThisProject {
    lab: Arc<Lab>,
    pipeline: Arc<Pipeline>,
    voucher: VoucherId,
}

fn pipeline_of(lab: &Lab) -> Result<&Arc<Pipeline>, Failure> {
    Ok(lab.pipeline.as_ref().context("the services do not run")?)
}

impl Strategy for ThisProject {
    const CARD: Card = Card {
        name: "pipeline",
        step: 10,
        title: "this project: Lua with an outbox, Kafka, and a fold",
        story: "The script takes the unit and writes the order down beside it; the answer waits until the log has \
                it; PostgreSQL is folded from the log. Whoever dies, the next one finds the pending order and \
                publishes it again. A Redis that comes back without its last second is not the one the sale was \
                loaded into: its fence differs, the scripts refuse, and the sale is loaded again from the log's \
                view before it goes on. The faults strike the ingress here (SIGSTOP, SIGKILL and a new one) and \
                its Redis; the client does what the API asks of it, and repeats with the same idempotency key \
                while it is told `pending`, 503 or nothing. Unlike in the other rungs, an accepted order is in a \
                replicated log, and came over HTTP.",
        diagram: "A: reserve.lua -> unit, hold, pending event in one step\n\
                  A's ingress dies\n\
                  B's ingress: finds the pending event, publishes it: SeckillReserved(A)\n\
                  A: POST again, same key -> the same order",
        expected: Expected {
            restart: Some(Verdict::Safe),
            double_click: Some(Verdict::Safe),
            ..Expected::SAFE
        },
    };

    const ACCEPTED: Accepted = Accepted::Record;

    const PATIENCE_MIN: Duration = RECOVERY;

    async fn prepare(lab: &Lab) -> Result<(), Failure> {
        let voucher = pipeline_of(lab)?.open_sale(lab.stock).await?;
        let table = "CREATE TABLE sale AS SELECT $1::bigint AS voucher_id";
        lab.database.execute(table, &[voucher.get()]).await?;
        Ok(())
    }

    async fn open(lab: Arc<Lab>) -> Result<Self, Failure> {
        let pipeline = Arc::clone(pipeline_of(&lab)?);
        let voucher = lab.database.number("SELECT voucher_id FROM sale", &[]);
        let voucher = voucher.await?.unwrap_or(0);
        let voucher = VoucherId::new(voucher).context("the sale's voucher")?;
        Ok(Self {
            lab,
            pipeline,
            voucher,
        })
    }

    async fn buy(&self, buyer: Buyer) -> Result<Answer, Failure> {
        let bearer = self.pipeline.bearer(buyer.user_id.unsigned_abs() + 1)?;
        let key = format!("click-{}", buyer.click);
        let key = HeaderValue::try_from(key).context("an idempotency key")?;
        self.lab.gate.pass().await;
        loop {
            match self.post(&bearer, &key).await? {
                Told::Reserved(_) => return Ok(Answer::Bought),
                Told::Refused {
                    status: 409,
                    problem: "sold-out",
                } => return Ok(Answer::SoldOut),
                Told::Refused {
                    status: 409,
                    problem: "already-ordered",
                } => return Ok(Answer::Already),
                Told::Pending(_) | Told::None | Told::Refused { status: 503, .. } => {
                    sleep(RETRY_PAUSE).await;
                }
                other @ (Told::Refused { .. } | Told::Limited { .. }) => {
                    return Err(Failure::Refused(other.label()));
                }
            }
        }
    }

    async fn round_trips(lab: &Lab) -> Result<RoundTrips, Failure> {
        let sql = "SELECT pg_current_xact_id()::text::bigint";
        let transactions = lab.database.number(sql, &[]).await?.unwrap_or(0);
        Ok(RoundTrips {
            database: transactions.unsigned_abs(),
            redis: pipeline_of(lab)?.redis_reads()?,
        })
    }

    async fn settle(&self) -> Result<(), Failure> {
        while !self.pipeline.api.ledger(self.voucher).await?.is_at_rest() {
            sleep(POLL).await;
        }
        // Where the other rungs' orders are counted.
        let forget = "DELETE FROM orders";
        self.lab.database.execute(forget, &[]).await?;
        let copy = "INSERT INTO orders SELECT user_id FROM public.orders
                    WHERE voucher_id = $1 AND status IN ('unpaid', 'paid')";
        self.lab
            .database
            .execute(copy, &[self.voucher.get()])
            .await?;
        Ok(())
    }
}

impl ThisProject {
    async fn post(&self, bearer: &HeaderValue, key: &HeaderValue) -> Result<Told, Failure> {
        let path = format!("/api/v1/vouchers/{}/orders", self.voucher);
        let path = path.parse().context("a path")?;
        let endpoint = &self.pipeline.api.public;
        let mut call = endpoint.request(Method::POST, path, Bytes::new());
        call.headers_mut().insert(AUTHORIZATION, bearer.clone());
        call.headers_mut().insert("idempotency-key", key.clone());
        let reply = self.pipeline.pool.call(call).await.ok();
        let reply = reply.as_ref().map(|reply| Reply {
            status: reply.status.as_u16(),
            body: &reply.body,
            rate_limit: None,
        });
        Ok(Told::read(reply.as_ref()))
    }
}
