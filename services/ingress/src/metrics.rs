//! The metrics of the ingress.

use seckill_metrics::Metric;

seckill_metrics::catalogue! {
    CounterEntry HTTP_REQUESTS = "seckill_http_requests_total" ["route", "status"] "Requests that were answered, by the route's pattern.";
    HistogramEntry HTTP_REQUEST_SECONDS = "seckill_http_request_seconds" ["route"] "From a request's head to its answer.";
    GaugeEntry IN_FLIGHT_REQUESTS = "seckill_in_flight_requests" ["class"] "Requests that are being served, by what they are for. Orders are in seckill_in_flight_orders.";
    CounterEntry ADMISSION_REFUSED = "seckill_admission_refused_total" ["class", "cause"] "Requests that were refused with 503 before anything was done for them, by what was full: in-flight, queue, or stalled.";
    CounterEntry ORDERS = "seckill_orders_total" ["answer"] "Requests for an order, by answer: reserved, pending, or the problem's name.";
    CounterEntry SOLD_OUT_REMEMBERED = "seckill_sold_out_remembered_total" [] "Orders that were refused as sold out without asking Redis, under its lease.";
    GaugeEntry IN_FLIGHT_ORDERS = "seckill_in_flight_orders" [] "Orders that wait for Redis or Kafka.";
    HistogramEntry RESERVE_SCRIPT_SECONDS = "seckill_reserve_script_seconds" [] "From the first sending of a call to Redis to its answer, with repetitions.";
    HistogramEntry RESERVE_BATCH_SIZE = "seckill_reserve_batch_size" [] "Orders of one call to Redis.";
    HistogramEntry ORDER_QUEUE_SECONDS = "seckill_order_queue_seconds" [] "How long the first order of a call had waited for it.";
    GaugeEntry ORDER_QUEUE_AGE_SECONDS = "seckill_order_queue_age_seconds" [] "How long the oldest order has been waiting for a call to Redis.";
    HistogramEntry PUBLISH_ACK_SECONDS = "seckill_publish_ack_seconds" [] "From an event's sending to Kafka's acknowledgement.";
    CounterEntry RELAY_PUBLISHED = "seckill_relay_published_total" [] "Pending events of other requests and instances that were published again.";
    GaugeEntry RELAY_AGE_SECONDS = "seckill_relay_age_seconds" [] "How long the oldest pending event has waited that Kafka does not take from this instance; 0 while it takes them.";
    GaugeEntry OPEN_STREAMS = "seckill_open_streams" [] "Event streams of buyers that are open.";
    GaugeEntry BODIES_ARRIVING = "seckill_bodies_arriving" [] "Request bodies that have not arrived whole.";
    CounterEntry BODIES_REFUSED = "seckill_bodies_refused_total" [] "Request bodies that were refused because too many of their address were arriving.";
    CounterEntry RATE_LIMITED = "seckill_rate_limited_total" ["policy"] "Requests that a rate limit refused.";
    CounterEntry RATE_LIMIT_FALLBACKS = "seckill_rate_limit_fallbacks_total" ["policy"] "Requests that were counted by this instance alone, as Redis did not say what all have taken.";
    CounterEntry RISK_DECISIONS = "seckill_risk_decisions_total" ["decision", "rule"] "What the operators' rules said to orders.";
    CounterEntry CLIENT_ADDRESS_UNKNOWN = "seckill_client_address_unknown_total" [] "Requests whose proxy named no client address that can be read.";
    CounterEntry TOKEN_RENEWALS = "seckill_token_renewals_total" [] "Tokens that were renewed.";
    CounterEntry SIGN_IN_CODES = "seckill_sign_in_codes_total" ["answer"] "Requests for a sign-in code, by answer.";
    CounterEntry SIGN_INS = "seckill_sign_ins_total" ["answer"] "Attempts to sign in with a code, by answer.";
    CounterEntry MAILS = "seckill_mails_total" ["result"] "Mails with a code, by what became of them.";
    CounterEntry WEBHOOK_REFUSED = "seckill_webhook_refused_total" ["reason"] "Calls of the payment webhook whose signature was refused.";
    CounterEntry ADMIN_REFUSED = "seckill_admin_refused_total" [] "Requests to the operators' API without a good token.";
    GaugeEntry DEPENDENCY_UP = "seckill_dependency_up" ["dependency"] "1 while the store can be used.";
    GaugeEntry IDENTITY_PROVIDER_AWAY_SECONDS = "seckill_identity_provider_away_seconds" ["who"] "For how long the identity provider of operators, or of buyers, has not given its keys; 0 while it gives them. It is asked every five minutes, and every five seconds while it is away.";
}

/// These, and those of the libraries that the service uses.
#[must_use]
pub fn all() -> Vec<&'static [Metric]> {
    vec![
        METRICS,
        seckill_credentials::metrics::METRICS,
        seckill_ephemeral::metrics::METRICS,
        seckill_eventlog::metrics::METRICS,
        seckill_orderbook::metrics::METRICS,
    ]
}
