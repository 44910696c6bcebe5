//! Stands in for a payment provider: `GET /pay?order_id=&amount_cents=&currency=&return_to=` shows a
//! page with a Pay button, which sends the signed webhook and goes back. For the local stack and for
//! tests; no money moves.

mod pages;
mod payment;
mod webhook;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use anyhow::Context;
use seckill_service::check_config::{self, Asked};
use seckill_service::logs::{self, LogFormat};
use seckill_service::ops::Ops;
use seckill_service::settings::{Reader, SECRET_MIN_BYTES, Secret, SettingsError, Source};
use seckill_service::shutdown;

use crate::webhook::Webhook;

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

struct Config {
    listen: SocketAddr,
    ingress_url: String,
    shop_url: String,
    webhook_secret: Secret,
}

impl Config {
    fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let listen = SocketAddr::from(([127, 0, 0, 1], 8084));
        let listen = reader.or("PAYMENT_SIMULATOR_LISTEN", listen);
        // Whoever reaches it pays without money.
        let anywhere = reader.or("PAYMENT_SIMULATOR_ANYWHERE", false);
        let listen = reader.accept("PAYMENT_SIMULATOR_LISTEN", listen, |listen| {
            if listen.ip().is_loopback() || anywhere == Some(true) {
                return Ok(());
            }
            Err(
                "whoever reaches it pays without money, so it listens on this machine alone; \
                 with PAYMENT_SIMULATOR_ANYWHERE=true elsewhere, too",
            )
        });
        let ingress_url = reader.or("INGRESS_URL", "http://127.0.0.1:8080".to_owned());
        let ingress_url = reader.accept("INGRESS_URL", ingress_url, |url| check_url(url));
        let shop_url: Option<Option<String>> = reader.optional("SHOP_URL");
        let shop_url = reader.accept("SHOP_URL", shop_url, |url| {
            url.as_deref().map_or(Ok(()), check_url)
        });
        let webhook_secret = reader.secret("PAYMENT_WEBHOOK_SECRET", SECRET_MIN_BYTES);
        let config = || {
            let ingress_url = ingress_url?.trim_end_matches('/').to_owned();
            let shop_url = shop_url?.unwrap_or_else(|| ingress_url.clone());
            Some(Self {
                listen: listen?,
                ingress_url,
                shop_url: shop_url.trim_end_matches('/').to_owned(),
                webhook_secret: webhook_secret?,
            })
        };
        let config = config();
        reader.finish(config)
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| error.to_string())?;
    match parsed.scheme() {
        "http" | "https" => Ok(()),
        _ => Err("it begins with https:// or http://".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let source = Source::load();
    let config = match Config::load(&source) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("seckill-payment-simulator: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match check_config::asked() {
        Some(asked) => check(asked, &source, &config).await,
        None => run(config).await.map(|()| ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("seckill-payment-simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn check(asked: Asked, source: &Source, config: &Config) -> anyhow::Result<ExitCode> {
    let client = client()?;
    let health = check_config::health();
    // Any answer will do: this is where payments go.
    let ask = async || client.get(&config.ingress_url).send().await.map(drop);
    if asked.tries_stores {
        health.wait_for("ingress", |_| false, ask).await?;
    }
    Ok(check_config::print(asked.form, source, &health)?)
}

fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder().timeout(WEBHOOK_TIMEOUT).build()
}

async fn run(config: Config) -> anyhow::Result<()> {
    logs::start("info", LogFormat::Json).map_err(anyhow::Error::msg)?;
    let ops = Ops::install("payment-simulator", &[]).map_err(anyhow::Error::msg)?;
    let stop = shutdown::on_signal()?;
    let webhook = web::Data::new(Webhook {
        client: client()?,
        ingress_url: config.ingress_url,
        shop_url: config.shop_url,
        secret: config.webhook_secret,
    });
    ops.health.resolved("start");
    HttpServer::new(move || {
        App::new()
            .app_data(webhook.clone())
            .configure(|routes| ops.routes(routes))
            .route("/pay", web::get().to(pages::show))
            .route("/pay", web::post().to(pages::pay))
    })
    .workers(1)
    .disable_signals()
    .shutdown_signal(async move { stop.cancelled().await })
    .bind(config.listen)
    .with_context(|| {
        format!(
            "PAYMENT_SIMULATOR_LISTEN: cannot listen on {}",
            config.listen
        )
    })?
    .run()
    .await
    .context("the listener ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_alone_unless_it_is_told_twice() {
        let load = |listen: &str, anywhere: &str| {
            Config::load(&Source::from_iter([
                ("PAYMENT_WEBHOOK_SECRET", "0123456789abcdef0123456789abcdef"),
                ("PAYMENT_SIMULATOR_LISTEN", listen),
                ("PAYMENT_SIMULATOR_ANYWHERE", anywhere),
            ]))
        };
        for loopback in ["", "127.0.0.1:0", "127.8.9.1:1", "[::1]:1"] {
            assert!(load(loopback, "").is_ok(), "{loopback}");
        }
        for elsewhere in ["0.0.0.0:8084", "[::]:8084", "192.0.2.1:8084"] {
            for anywhere in ["", "false"] {
                let SettingsError(errors) = load(elsewhere, anywhere).err().unwrap();
                assert!(
                    errors[0].starts_with("PAYMENT_SIMULATOR_LISTEN"),
                    "{errors:?}"
                );
            }
            assert!(load(elsewhere, "true").is_ok(), "{elsewhere}");
        }
    }
}
