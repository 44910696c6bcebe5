//! No buyer can see, follow or cancel an order of another buyer. Every buyer asks for every order, in every state that
//! an order can have. For another buyer the order does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::{TryStreamExt, stream};
use hmac::{Hmac, Mac};
use reqwest::{Method, Response};
use seckill_credentials::token;
use seckill_domain::OrderId;
use seckill_tests::{Client, Market, MarketOrder, OrderState};
use serde_json::{Value, json};
use sha2::Sha512;

/// How often a request is repeated if a store does not answer in time.
const MOST_ASKED: usize = 30;
/// The number of requests at the same time.
const LANES: usize = 16;
/// `{"alg":"none","typ":"JWT"}`.
const ALGORITHM_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
/// `{"alg":"HS512","typ":"JWT"}`.
const ALGORITHM_HS512: &str = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9";
/// The last version with a refund: a client with this id has seen everything.
const SEEN_ALL: (&str, &str) = ("Last-Event-ID", "2r");

/// All parts of an answer that could reveal something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Seen {
    /// Reads an answer. Of a stream it reads only the first event, because the stream may not end.
    async fn read(mut response: Response) -> Result<Self> {
        let mut headers = BTreeMap::new();
        for (name, value) in response.headers() {
            headers.insert(name.to_string(), value.to_str()?.to_owned());
        }
        headers.remove("date");
        headers.remove("traceresponse");
        let status = response.status().as_u16();
        let streams = headers.get("content-type").map(String::as_str) == Some("text/event-stream");
        let body = if streams {
            let first = response.chunk().await?.context("a stream of nothing")?;
            String::from_utf8(first.to_vec())?
        } else {
            response.text().await?
        };
        Ok(Self {
            status,
            headers,
            body,
        })
    }
}

/// All requests about one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Get,
    Follow,
    Resume,
    Cancel,
}

impl Question {
    const ALL: [Self; 4] = [Self::Get, Self::Follow, Self::Resume, Self::Cancel];

    /// Sends the request, and repeats it if a store did not answer in time, as every client should.
    async fn ask(self, client: &Client, token: Option<&str>, order_id: &str) -> Result<Seen> {
        let mut asked = 1;
        loop {
            let seen = self.ask_once(client, token, order_id).await?;
            if seen.status != 503 || asked == MOST_ASKED {
                return Ok(seen);
            }
            asked += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn ask_once(self, client: &Client, token: Option<&str>, order_id: &str) -> Result<Seen> {
        let (method, tail) = match self {
            Self::Get => (Method::GET, ""),
            Self::Follow | Self::Resume => (Method::GET, "/events"),
            Self::Cancel => (Method::POST, "/cancel"),
        };
        let mut request = client.request(method, &format!("/api/v1/orders/{order_id}{tail}"));
        if self == Self::Resume {
            request = request.header(SEEN_ALL.0, SEEN_ALL.1);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        Seen::read(request.send().await?).await
    }
}

/// The answer with `token` about an order of the same sale that does not exist.
async fn of_nothing(
    market: &Market,
    question: Question,
    token: Option<&str>,
    like: &MarketOrder,
) -> Result<Seen> {
    let order_id: OrderId = like.order_id.parse()?;
    let nothing = OrderId::from_parts(order_id.voucher_id(), 77, 77).to_string();
    question.ask(&market.world.client, token, &nothing).await
}

/// Sends all requests about the orders of a sale as another buyer.
async fn as_stranger(market: &Market, stranger: u64, sale: &[MarketOrder]) -> Result<()> {
    let client = &market.world.client;
    let token = client.token(stranger)?;
    for question in Question::ALL {
        let nothing = of_nothing(market, question, Some(&token), &sale[0]).await?;
        for order in sale.iter().filter(|order| order.buyer != stranger) {
            let seen = question.ask(client, Some(&token), &order.order_id).await?;
            ensure!(
                seen.status == 404 && seen == nothing,
                "{stranger} asks to {question:?} {order:?}: {seen:?}, of nothing: {nothing:?}"
            );
        }
    }
    Ok(())
}

/// Sends the requests that do not change the order as its buyer.
async fn as_buyer(market: &Market, order: &MarketOrder) -> Result<()> {
    let client = &market.world.client;
    let token = client.token(order.buyer)?;
    let ended = !matches!(order.state, OrderState::Pending | OrderState::Unpaid);
    for question in [Question::Get, Question::Follow] {
        let seen = question.ask(client, Some(&token), &order.order_id).await?;
        ensure!(seen.status == 200, "{order:?}: {seen:?}");
        let body = seen
            .body
            .lines()
            .find_map(|line| line.strip_prefix("data: "));
        let told: Value = serde_json::from_str(body.unwrap_or(&seen.body))?;
        ensure!(told["order_id"] == order.order_id && told["status"] == order.state.status());
        ensure!(told["user_id"] == order.buyer, "{order:?}: {seen:?}");
    }
    if ended {
        let resumed = Question::Resume.ask(client, Some(&token), &order.order_id);
        ensure!(resumed.await?.status == 204, "{order:?}");
    }
    if order.state != OrderState::Unpaid {
        let refused = client.cancel(order.buyer, &order.order_id).await?;
        ensure!(
            (refused.status, refused.problem()) == (409, "not-cancellable"),
            "{order:?}"
        );
    }
    Ok(())
}

/// The ids in all pages of *my orders*, beginning before `cursor`.
async fn listed(
    client: &Client,
    buyer: u64,
    cursor: Option<&str>,
) -> Result<(BTreeSet<String>, Vec<String>)> {
    let (mut ids, mut cursors) = (BTreeSet::new(), Vec::new());
    let mut next = cursor.map(str::to_owned);
    loop {
        let before = next
            .map(|next| format!("&before={next}"))
            .unwrap_or_default();
        let answer = client
            .get(buyer, &format!("/api/v1/orders?limit=3{before}"))
            .await?;
        let orders = answer.body["orders"]
            .as_array()
            .with_context(|| format!("{answer:?}"))?;
        for order in orders {
            ids.insert(order["order_id"].as_str().context("an id")?.to_owned());
        }
        next = answer.body["next"].as_str().map(str::to_owned);
        match &next {
            Some(next) => cursors.push(next.clone()),
            None => return Ok((ids, cursors)),
        }
    }
}

async fn lists_have_only_ones_own(market: &Market) -> Result<()> {
    let client = &market.world.client;
    let mut cursors = Vec::new();
    for buyer in 1..=Market::BUYERS {
        let (ids, found) = listed(client, buyer, None).await?;
        // Rejected orders are additional to a live one. Pending orders are not in the list yet.
        let own = market
            .orders()
            .filter(|o| o.buyer == buyer && o.state != OrderState::Pending);
        let own: BTreeSet<String> = own.map(|order| order.order_id.clone()).collect();
        let extra: Vec<_> = ids.difference(&own).collect();
        ensure!(extra.len() == 1, "of {buyer} beside {own:?}: {extra:?}");
        ensure!(own.is_subset(&ids), "{own:?} in {ids:?}");
        cursors.extend(found.into_iter().take(1));
    }
    for (buyer, cursor) in (1..=Market::BUYERS).rev().zip(&cursors) {
        let (ids, _) = listed(client, buyer, Some(cursor)).await?;
        let of_others = market.orders().filter(|order| order.buyer != buyer);
        let leaked: Vec<_> = of_others
            .filter(|order| ids.contains(&order.order_id))
            .collect();
        ensure!(
            leaked.is_empty(),
            "another's cursor shows {buyer} {leaked:?}"
        );
    }
    Ok(())
}

/// Checks that pages are the same for everybody. They load orders with the API.
async fn pages_have_nobodys(market: &Market) -> Result<()> {
    let client = &market.world.client;
    let first = market.orders().next().context("an order")?;
    let voucher = first.order_id.parse::<OrderId>()?.voucher_id();
    for page in ["/", "/orders", "/sign-in", &format!("/sales/{voucher}")] {
        let request = client
            .request(Method::GET, page)
            .bearer_auth(client.token(1)?);
        let seen = Seen::read(request.send().await?).await?;
        ensure!(seen.status == 200, "{page}: {seen:?}");
        for order in market.orders() {
            ensure!(!seen.body.contains(&order.order_id), "{page} has {order:?}");
        }
    }
    Ok(())
}

/// Invalid tokens that look like those of buyer 1.
async fn forged(market: &Market) -> Result<Vec<(&'static str, Option<String>)>> {
    let client = &market.world.client;
    let claims = json!({
        "sub": "1", "iat": 1, "exp": 4_000_000_000_u64, "iss": "seckill", "aud": "seckill",
    });
    let signed_out = client.sign(&claims)?;
    let sign_out = client.request(Method::POST, "/api/v1/sign-out");
    ensure!(sign_out.bearer_auth(&signed_out).send().await?.status() == 204);
    let secret = market.world.stack.setting("TOKEN_SECRET");
    let (own, others) = (client.token(1)?, client.token(2)?);
    let (head, signature) = own.rsplit_once('.').context("a token")?;
    let (_, of_others) = others.rsplit_once('.').context("a token")?;
    let (_, payload) = head.split_once('.').context("a token")?;
    let by_hs512 = format!("{ALGORITHM_HS512}.{payload}");
    let mac = Hmac::<Sha512>::new_from_slice(secret.as_bytes())?.chain_update(&by_hs512);
    let mac = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Ok(vec![
        ("no token", None),
        ("a signed-out one", Some(signed_out)),
        ("another's signature", Some(format!("{head}.{of_others}"))),
        (
            "half a signature",
            Some(format!("{head}.{}", &signature[..20])),
        ),
        ("no signature", Some(format!("{head}."))),
        (
            "algorithm none",
            Some(format!("{ALGORITHM_NONE}.{payload}.")),
        ),
        ("another secret", Some(token::sign("a guess", &claims)?)),
        ("another algorithm", Some(format!("{by_hs512}.{mac}"))),
    ])
}

/// Checks that a request without a valid token is refused before an order is looked up.
async fn nobodies_learn_nothing(market: &Market) -> Result<()> {
    let client = &market.world.client;
    for (name, token) in forged(market).await? {
        let token = token.as_deref();
        for order in market.orders().filter(|order| order.buyer == 1) {
            for question in Question::ALL {
                let seen = question.ask(client, token, &order.order_id).await?;
                let nothing = of_nothing(market, question, token, order).await?;
                ensure!(
                    seen.status == 401 && seen == nothing,
                    "{name}: {question:?} {order:?}: {seen:?}, of nothing: {nothing:?}"
                );
            }
        }
        let list = client.request(Method::GET, "/api/v1/orders");
        let list = token.map_or(list.try_clone(), |token| Some(list.bearer_auth(token)));
        let answer = client.send(list.context("a request")?).await?;
        ensure!(answer.status == 401, "{name}: {answer:?}");
    }
    // A buyer's token is not accepted as an operator's, on either listener.
    let order_id = &market.orders().next().context("an order")?.order_id;
    for (listener, status) in [(&client.admin_url, 401), (&client.url, 404)] {
        let url = format!("{listener}/admin/v1/orders/{order_id}/timeline");
        let request = reqwest::Client::new()
            .get(url)
            .bearer_auth(client.token(1)?);
        ensure!(request.send().await?.status() == status, "{listener}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_another_is_no_order() -> Result<()> {
    let market = Market::open().await?;
    let ids: BTreeSet<_> = market.orders().map(|order| &order.order_id).collect();
    assert_eq!(ids.len(), 8 * usize::try_from(Market::BUYERS)?);
    let asked_for = market.events_beside_reservations().await?;
    let pairs = market
        .orders_by_sale()
        .flat_map(|sale| (1..=Market::BUYERS).map(move |buyer| (buyer, sale)));
    stream::iter(pairs.map(Ok))
        .try_for_each_concurrent(LANES, |(buyer, sale)| {
            let market = &market;
            async move {
                for order in sale.iter().filter(|order| order.buyer == buyer) {
                    as_buyer(market, order).await?;
                }
                as_stranger(market, buyer, sale).await
            }
        })
        .await?;
    lists_have_only_ones_own(&market).await?;
    pages_have_nobodys(&market).await?;
    nobodies_learn_nothing(&market).await?;
    assert_eq!(market.events_beside_reservations().await?, asked_for);
    for order in market.orders().filter(|o| o.state == OrderState::Unpaid) {
        let given_up = market
            .world
            .client
            .cancel(order.buyer, &order.order_id)
            .await?;
        assert_eq!(given_up.status, 202, "{order:?}");
    }
    market.close().await
}
