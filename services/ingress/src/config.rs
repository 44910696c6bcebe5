//! The settings of the ingress, checked as a whole at start.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread::available_parallelism;
use std::time::Duration;

use seckill_service::logs::LogSettings;
use seckill_service::settings::{Reader, SECRET_MIN_BYTES, Secret, SettingsError, Source};
use seckill_service::traces::TraceSettings;
use seckill_stores::StoreSettings;

use crate::gate::admission::Places;
use crate::gate::limits::Rates;
use crate::http::address::{ProxyHeader, TrustedProxies};
use crate::issuer::IssuerSettings;
use crate::operators::auth::NamedTokens;
use crate::operators::provider::ProviderSettings;
use crate::payments::webhook::check_secret;
use crate::shop::pages::PaymentPage;
use crate::sign_in::settings::SignInSettings;

/// actix computes the end of a wait from a clock that it updates twice a second, or later on a busy thread. If
/// the end has passed before its timer is made, the timer never fires, and the connection stays until its
/// write deadline.
const KEEP_ALIVE_MIN_SECONDS: u64 = 5;

/// All settings of the ingress.
#[derive(Clone)]
pub struct Config {
    /// How the stores are reached.
    pub stores: StoreSettings,
    /// The address of the public listener.
    pub listen: SocketAddr,
    /// The address of the admin listener: operators' API, health and metrics.
    pub admin_listen: SocketAddr,
    /// The token that all operators may share.
    pub admin_token: Secret,
    /// Operators' own tokens, each with its owner's name.
    pub admin_tokens: NamedTokens,
    /// The identity provider of operators.
    pub admin_provider: Option<ProviderSettings>,
    /// Who else names buyers.
    pub buyer_issuer: Option<IssuerSettings>,
    /// The HS256 key of buyers' tokens.
    pub token_secret: Secret,
    /// The previous key: its tokens stay valid while the key is being changed.
    pub token_secret_previous: Option<Secret>,
    /// The HMAC key of the payment provider's webhook.
    pub payment_webhook_secret: Secret,
    /// The previous key: its signatures stay valid while the key is being changed.
    pub payment_webhook_secret_previous: Option<Secret>,
    /// The URL of the payment page. Without it, pages show no button to pay.
    pub payment_page: Option<PaymentPage>,
    /// The promise deadline: an order whose event is acknowledged later is answered `pending`.
    pub promise_deadline: Duration,
    /// The most orders that may be under way at a time.
    pub max_in_flight: usize,
    /// An order is refused when it would have to wait longer than this for its call to Redis.
    pub queue_patience: Duration,
    /// How many requests of the other kinds may be under way at a time.
    pub places: Places,
    /// How many request bodies may be arriving from one address at a time.
    pub bodies_per_address: usize,
    /// Rate limits on orders, per second.
    pub rate_limits: Rates,
    /// Whether the limits by voucher and in all are shared by all instances.
    pub rate_limits_shared: bool,
    /// The proxies that are believed when they name a client's address.
    pub trusted_proxies: TrustedProxies,
    /// Sign-in by e-mailed code.
    pub sign_in: SignInSettings,
    /// HTTP worker threads.
    pub workers: usize,
    /// How long an idle connection is kept open.
    pub keep_alive: Duration,
    /// How long the process continues to serve after it has become not ready at shutdown.
    pub drain_delay: Duration,
    /// Log level and format.
    pub logs: LogSettings,
    /// Where spans go.
    pub traces: TraceSettings,
}

impl Config {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// All mistakes at once, each with the name of its setting.
    pub fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let config = read(&mut reader);
        reader.finish(config)
    }
}

/// Every setting is read before any is unwrapped, so that one mistake does not hide the next.
fn read(reader: &mut Reader<'_>) -> Option<Config> {
    let stores = StoreSettings::read(reader);
    let listen = reader.or("INGRESS_LISTEN", SocketAddr::from(([127, 0, 0, 1], 8080)));
    let admin_listen = reader.or(
        "INGRESS_ADMIN_LISTEN",
        SocketAddr::from(([127, 0, 0, 1], 8081)),
    );
    let secrets = Secrets::read(reader);
    let admin_tokens = reader.optional::<NamedTokens>("ADMIN_TOKENS");
    reader.hide("ADMIN_TOKENS");
    let admin_provider = ProviderSettings::read(reader);
    let buyer_issuer = IssuerSettings::read(reader, "BUYER_ISSUER", "BUYER_AUDIENCE");
    if let (Some(Some(admin)), Some(Some(buyers))) = (&admin_provider, &buyer_issuer)
        && admin.issuer() == buyers
    {
        let why = "is the same as ADMIN_AUDIENCE, of the same issuer: an operator's token would be a buyer's";
        reader.refuse("BUYER_AUDIENCE", why);
    }
    let payment_page = reader.optional("PAYMENT_PAGE_URL");
    let promise_deadline_ms = at_least(reader, "PROMISE_DEADLINE_MS", 3000, &1);
    let max_in_flight = at_least(reader, "MAX_IN_FLIGHT", 20_000, &1);
    let order_queue_ms = at_least(reader, "ADMISSION_ORDER_QUEUE_MS", 500, &1);
    let places = places(reader);
    let bodies_per_address = at_least(reader, "ADMISSION_BODIES_PER_ADDRESS", 1_000, &1);
    let rate_limits = rates(reader);
    let rate_limits_shared = reader.or("RATE_LIMIT_SHARED", false);
    let trusted_proxies = reader.optional::<TrustedProxies>("TRUSTED_PROXIES");
    let proxy_header = reader.or("TRUSTED_PROXIES_HEADER", ProxyHeader::default());
    let sign_in = SignInSettings::read(reader);
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = at_least(reader, "INGRESS_WORKERS", cores, &1);
    let keep_alive_seconds = at_least(reader, "KEEP_ALIVE_SECONDS", 75, &KEEP_ALIVE_MIN_SECONDS);
    let drain_delay_ms = reader.or("DRAIN_DELAY_MS", 200);
    let logs = LogSettings::read(reader);
    let traces = TraceSettings::read(reader);
    Some(Config {
        stores: stores?,
        listen: listen?,
        admin_listen: admin_listen?,
        admin_token: secrets.admin_token?,
        admin_tokens: admin_tokens?.unwrap_or_default(),
        admin_provider: admin_provider?,
        buyer_issuer: buyer_issuer?,
        token_secret: secrets.token?,
        token_secret_previous: secrets.token_previous?,
        payment_webhook_secret: secrets.webhook?,
        payment_webhook_secret_previous: secrets.webhook_previous?,
        payment_page: payment_page?,
        promise_deadline: Duration::from_millis(promise_deadline_ms?),
        max_in_flight: max_in_flight?,
        queue_patience: Duration::from_millis(order_queue_ms?),
        places: places?,
        bodies_per_address: bodies_per_address?,
        rate_limits: rate_limits?,
        rate_limits_shared: rate_limits_shared?,
        trusted_proxies: trusted_proxies?.unwrap_or_default().writing(proxy_header?),
        sign_in: sign_in?,
        workers: workers?,
        keep_alive: Duration::from_secs(keep_alive_seconds?),
        drain_delay: Duration::from_millis(drain_delay_ms?),
        logs: logs?,
        traces: traces?,
    })
}

/// All secrets. No two may be equal: a person who is given one must not know another.
struct Secrets {
    admin_token: Option<Secret>,
    token: Option<Secret>,
    token_previous: Option<Option<Secret>>,
    webhook: Option<Secret>,
    webhook_previous: Option<Option<Secret>>,
}

impl Secrets {
    fn read(reader: &mut Reader<'_>) -> Self {
        let (webhook, webhook_previous) =
            ("PAYMENT_WEBHOOK_SECRET", "PAYMENT_WEBHOOK_SECRET_PREVIOUS");
        let mut read = Self {
            admin_token: reader.secret("ADMIN_TOKEN", SECRET_MIN_BYTES),
            token: reader.secret("TOKEN_SECRET", SECRET_MIN_BYTES),
            token_previous: reader.optional_secret("TOKEN_SECRET_PREVIOUS", SECRET_MIN_BYTES),
            webhook: reader.secret(webhook, SECRET_MIN_BYTES),
            webhook_previous: reader.optional_secret(webhook_previous, SECRET_MIN_BYTES),
        };
        read.webhook = reader.accept(webhook, read.webhook, check_secret);
        read.webhook_previous = reader.accept(webhook_previous, read.webhook_previous, |secret| {
            secret.as_ref().map_or(Ok(()), check_secret)
        });
        read.refuse_equal(reader);
        read
    }

    fn refuse_equal(&self, reader: &mut Reader<'_>) {
        let all = [
            ("ADMIN_TOKEN", self.admin_token.as_ref()),
            ("TOKEN_SECRET", self.token.as_ref()),
            (
                "TOKEN_SECRET_PREVIOUS",
                self.token_previous.iter().flatten().next(),
            ),
            ("PAYMENT_WEBHOOK_SECRET", self.webhook.as_ref()),
            (
                "PAYMENT_WEBHOOK_SECRET_PREVIOUS",
                self.webhook_previous.iter().flatten().next(),
            ),
        ];
        for (place, (name, secret)) in all.iter().enumerate() {
            let same = all[..place]
                .iter()
                .find(|(_, other)| secret.is_some() && other == secret);
            if let Some((other, _)) = same {
                reader.refuse(name, &format!("is the same as {other}"));
            }
        }
    }
}

fn places(reader: &mut Reader<'_>) -> Option<Places> {
    let payments = at_least(reader, "ADMISSION_PAYMENTS_MAX", 4_000, &1);
    let reads = at_least(reader, "ADMISSION_READS_MAX", 2_000, &1);
    Some(Places {
        payments: payments?,
        reads: reads?,
    })
}

fn rates(reader: &mut Reader<'_>) -> Option<Rates> {
    let address = reader.or("RATE_LIMIT_ADDRESS_PER_SECOND", 0);
    let user = reader.or("RATE_LIMIT_USER_PER_SECOND", 5);
    let voucher = reader.or("RATE_LIMIT_VOUCHER_PER_SECOND", 0);
    let global = reader.or("RATE_LIMIT_GLOBAL_PER_SECOND", 0);
    Some(Rates {
        address: address?,
        user: user?,
        voucher: voucher?,
        global: global?,
    })
}

fn at_least<T>(reader: &mut Reader<'_>, name: &str, default: T, min: &T) -> Option<T>
where
    T: FromStr<Err: std::fmt::Display> + PartialOrd + std::fmt::Display,
{
    let value = reader.or(name, default)?;
    if value < *min {
        reader.refuse(name, &format!("is below {min}"));
        return None;
    }
    Some(value)
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("stores", &self.stores)
            .field("listen", &self.listen)
            .field("admin_listen", &self.admin_listen)
            .field("payment_page", &self.payment_page)
            .field("promise_deadline", &self.promise_deadline)
            .field("max_in_flight", &self.max_in_flight)
            .field("queue_patience", &self.queue_patience)
            .field("places", &self.places)
            .field("bodies_per_address", &self.bodies_per_address)
            .field("rate_limits", &self.rate_limits)
            .field("rate_limits_shared", &self.rate_limits_shared)
            .field("trusted_proxies", &self.trusted_proxies)
            .field("sign_in", &self.sign_in)
            .field("workers", &self.workers)
            .field("keep_alive", &self.keep_alive)
            .field("drain_delay", &self.drain_delay)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("KAFKA_BROKERS", "127.0.0.1:9092"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:6379"),
        ("DATABASE_URL", "postgres://shop:hunter2@127.0.0.1/shop"),
        ("ADMIN_TOKEN", "an admin token of its own, long enough"),
        ("TOKEN_SECRET", "a token secret of its own, long enough"),
        (
            "PAYMENT_WEBHOOK_SECRET",
            "a webhook secret of its own, long enough",
        ),
    ];

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = Config::load(&Source::from_iter(GOOD)).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8081");
        assert_eq!(config.stores.kafka.partitions, 12);
        assert_eq!(config.promise_deadline, Duration::from_secs(3));
        let five_a_user = Rates {
            user: 5,
            ..Rates::default()
        };
        assert_eq!(config.rate_limits, five_a_user);
        assert_eq!(config.max_in_flight, 20_000);
        assert_eq!(config.queue_patience, Duration::from_millis(500));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let bad = [
            ("ADMIN_TOKEN", "short"),
            ("ADMIN_TOKENS", "kim=short"),
            ("ADMIN_ISSUER", "http://login.example"),
            ("BUYER_ISSUER", "login.example"),
            ("EVENT_PARTITIONS", "0"),
            ("INGRESS_LISTEN", "here"),
            ("PROMISE_DEADLINE_MS", "-1"),
            ("ADMISSION_READS_MAX", "0"),
            ("KEEP_ALIVE_SECONDS", "4"),
            ("TRUSTED_PROXIES", "the proxy"),
            ("LOG_FORMAT", "xml"),
        ];
        let SettingsError(errors) = Config::load(&Source::from_iter(bad)).unwrap_err();
        let missing = [
            "KAFKA_BROKERS",
            "REDIS_URL",
            "DATABASE_URL",
            "TOKEN_SECRET",
            "PAYMENT_WEBHOOK_SECRET",
        ];
        for name in bad.map(|(name, _)| name).into_iter().chain(missing) {
            let named = errors
                .iter()
                .filter(|e| e.starts_with(&format!("{name} ")))
                .count();
            assert_eq!(named, 1, "{name}: {errors:#?}");
        }
        assert_eq!(errors.len(), bad.len() + missing.len(), "{errors:#?}");
    }

    #[test]
    fn secrets_have_32_bytes_and_no_two_of_them_are_alike() {
        let refused = |name: &'static str, value: &'static str| {
            let settings = GOOD.into_iter().chain([(name, value)]);
            let SettingsError(errors) = Config::load(&Source::from_iter(settings)).unwrap_err();
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0].clone()
        };
        let names = [
            "ADMIN_TOKEN",
            "TOKEN_SECRET",
            "TOKEN_SECRET_PREVIOUS",
            "PAYMENT_WEBHOOK_SECRET",
            "PAYMENT_WEBHOOK_SECRET_PREVIOUS",
        ];
        let another = |name: &str| {
            GOOD[3..]
                .iter()
                .find(|(other, _)| *other != name)
                .unwrap()
                .1
        };
        for name in names {
            let short = refused(name, "short by one: thirty-one bytes.");
            assert_eq!(short, format!("{name} is shorter than 32 bytes"));
            let same = refused(name, another(name));
            assert!(same.contains(" is the same as "), "{same}");
            assert!(!same.contains("of its own"), "{same}");
        }
        let own = refused(
            "TOKEN_SECRET_PREVIOUS",
            "a token secret of its own, long enough",
        );
        assert_eq!(own, "TOKEN_SECRET_PREVIOUS is the same as TOKEN_SECRET");
        let no_key = "whsec_which is no base64 at all, ever";
        let no_key = refused("PAYMENT_WEBHOOK_SECRET_PREVIOUS", no_key);
        assert!(no_key.contains("base64"), "{no_key}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let config = Config::load(&Source::from_iter(GOOD)).unwrap();
        let printed = format!("{config:?}");
        for secret in ["hunter2", "of its own"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}
