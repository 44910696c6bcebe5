//! The services, the payment simulator, and a browser in front of them.

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_testkit::ports::free_port;
use seckill_testkit::service::{Env, ServiceSpec};
use seckill_testkit::{MailSink, Service};
use seckill_tests::{World, eventually};

use crate::browser::Browser;

/// The token of the operator kim.
pub(crate) const OPERATOR: &str = "kims-0123456789abcdef0123456789abcdef";
/// The token of the viewer lee.
pub(crate) const VIEWER: &str = "lees-fedcba9876543210fedcba9876543210";

/// A shop that can be paid in.
pub(crate) struct Shop {
    pub(crate) world: World,
    /// Where its mails end up.
    pub(crate) mail: MailSink,
    _payments: Service,
}

impl Shop {
    pub(crate) fn open() -> Result<Self> {
        Self::open_with(&[])
    }

    /// With the operator kim and the viewer lee.
    pub(crate) fn with_operators() -> Result<Self> {
        let tokens = format!("kim:operator={OPERATOR}\nlee:viewer={VIEWER}");
        Self::open_with(&[("ADMIN_TOKENS", &tokens)])
    }

    /// With settings of its own.
    pub(crate) fn open_with(settings: &[(&str, &str)]) -> Result<Self> {
        let port = free_port()?;
        let page = format!("http://127.0.0.1:{port}/pay");
        let mail = MailSink::start()?;
        let smtp = mail.url();
        let shops = [("PAYMENT_PAGE_URL", page.as_str()), ("SMTP_URL", &smtp)];
        let world = World::with(&[&shops, settings].concat())?;
        let settings = [
            ("PAYMENT_SIMULATOR_LISTEN", format!("127.0.0.1:{port}")),
            ("INGRESS_URL", world.ingress.url()),
            (
                "PAYMENT_WEBHOOK_SECRET",
                world.stack.setting("PAYMENT_WEBHOOK_SECRET").to_owned(),
            ),
        ];
        let env: Env = settings
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let payments = Service::start(ServiceSpec {
            binary: "seckill-payment-simulator".to_owned(),
            env,
            admin_port: port,
            port: Some(port),
        })?;
        Ok(Self {
            world,
            mail,
            _payments: payments,
        })
    }

    /// A page of the operators as somebody with this token sees it.
    pub(crate) async fn operators_page(&self, path: &str, token: &str) -> Result<Browser> {
        let browser = Browser::start(1280, 900).await?;
        let page = format!("{}{path}", self.world.ingress.admin_url());
        browser.driver.goto(page).await?;
        browser.enter("#token", token).await?;
        browser.shown("#figures").await?;
        Ok(browser)
    }

    /// Who made requests to the operators' API that are like this, and why.
    pub(crate) async fn audit(&self, like: &str) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query_as("SELECT actor, reason FROM ops_audit WHERE command LIKE $1");
        Ok(rows
            .bind(like)
            .fetch_all(&self.world.database().await?)
            .await?)
    }

    /// Opens a path of the shop.
    pub(crate) async fn go(&self, browser: &Browser, path: &str) -> Result<()> {
        let address = format!("{}{path}", self.world.ingress.url());
        Ok(browser.driver.goto(address).await?)
    }

    /// Asks for a code on the sign-in page that is open, and reads it in the mail.
    pub(crate) async fn mailed_code(&self, browser: &Browser, address: &str) -> Result<String> {
        browser.shown("#email").await?.send_keys(address).await?;
        browser.click("#email-form button").await?;
        browser.shown("#code").await?;
        eventually("the mail is there", || async {
            Ok(!self.mail.mails_to(address)?.is_empty())
        })
        .await?;
        let mails = self.mail.mails_to(address)?;
        let code = mails[0].number(6).context("a mail without a code")?;
        Ok(code.to_owned())
    }

    /// Opens a sale's page as a user who has signed in before.
    pub(crate) async fn visit(
        &self,
        browser: &Browser,
        user: u64,
        voucher: VoucherId,
    ) -> Result<()> {
        self.remember(browser, user).await?;
        self.go(browser, &format!("/sales/{voucher}")).await
    }

    /// Puts a token where the sign-in page would.
    pub(crate) async fn remember(&self, browser: &Browser, user: u64) -> Result<()> {
        self.go(browser, "/sign-in").await?;
        let token = self.world.client.token(user)?;
        let script = "localStorage.setItem('seckill.token', arguments[0])";
        browser.driver.execute(script, vec![token.into()]).await?;
        Ok(())
    }
}
