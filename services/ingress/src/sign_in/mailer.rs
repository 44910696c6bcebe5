//! Mails go out in the background: how long a server takes tells the client nothing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use seckill_identity::{Address, Code};
use seckill_telemetry::settings::Secret;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codes::CODE_LIFE;
use super::queue::{self, FairQueue};

/// Mails that may wait; more are refused before their code is counted.
const QUEUE: usize = 1_000;
/// Mails on their way at a time.
const AT_ONCE: usize = 8;
const SMTP_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const RETRY: Duration = Duration::from_secs(2);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// The mail server, and who the mails are from.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// `smtp://[user:password@]host:port` or `smtps://…`; with `?tls=required` STARTTLS.
    pub url: Secret,
    /// The sender.
    pub from: Mailbox,
}

#[derive(Debug)]
struct Letter {
    to: Address,
    code: Code,
}

/// A place in the queue.
pub struct Place(queue::Place<Letter>);

/// The way to the queue.
#[derive(Debug)]
pub struct Mailer(FairQueue<Letter>);

/// The queue's other end.
pub struct Postman {
    letters: FairQueue<Letter>,
    transport: Transport,
    from: Mailbox,
}

/// Whether this is a mail server's address: [`MailSettings::url`].
///
/// # Errors
/// That it is none.
pub fn check_url(url: &Secret) -> Result<(), &'static str> {
    // The library's own error would quote the address, and the password with it.
    let parsed = Transport::from_url(url.expose());
    parsed
        .map(drop)
        .map_err(|_| "it is no smtp:// or smtps:// URL")
}

impl Mailer {
    /// A queue and who empties it.
    ///
    /// # Errors
    /// When the URL is none of a mail server.
    pub fn new(settings: &MailSettings) -> anyhow::Result<(Self, Postman)> {
        let letters = FairQueue::new(QUEUE);
        let transport = Transport::from_url(settings.url.expose())
            // The error would quote the URL, and the password with it.
            .map_err(|_| anyhow::anyhow!("SMTP_URL is no smtp:// or smtps:// URL"))?
            .timeout(Some(SMTP_TIMEOUT))
            .build();
        let postman = Postman {
            letters: letters.clone(),
            transport,
            from: settings.from.clone(),
        };
        Ok((Self(letters), postman))
    }

    /// A place for one mail that a client asks for; none when too many wait, and no client has more waiting
    /// than this one.
    #[must_use]
    pub fn place(&self, client: IpAddr) -> Option<Place> {
        let (place, pushed_out) = self.0.place(client)?;
        if pushed_out.is_some() {
            count("dropped");
        }
        Some(Place(place))
    }
}

impl Place {
    /// Puts the mail in.
    pub fn send(self, to: Address, code: Code) {
        self.0.fill(Letter { to, code });
    }
}

impl Postman {
    /// Sends what comes in; after `stop`, what is in the queue.
    pub async fn run(self, stop: CancellationToken) {
        let (at_once, on_the_way) = (Arc::new(Semaphore::new(AT_ONCE)), TaskTracker::new());
        let closing = async {
            stop.cancelled().await;
            self.letters.close();
        };
        let delivering = async {
            // First a hand that is free, then the letter whose turn it is by then.
            while let Ok(permit) = Arc::clone(&at_once).acquire_owned().await {
                let Some(letter) = self.letters.next().await else {
                    break;
                };
                let (transport, from) = (self.transport.clone(), self.from.clone());
                on_the_way.spawn(async move {
                    deliver(&transport, from, &letter).await;
                    drop(permit);
                });
            }
        };
        tokio::join!(closing, delivering);
        on_the_way.close();
        on_the_way.wait().await;
    }
}

fn count(result: &'static str) {
    metrics::counter!("seckill_mails_total", "result" => result).increment(1);
}

/// A mail that was lost costs its reader a minute: the log says why, never to whom or what.
async fn deliver(transport: &Transport, from: Mailbox, letter: &Letter) {
    let sent = match compose(from, letter) {
        Ok(message) => send(transport, &message).await,
        Err(error) => Err(error),
    };
    count(if sent.is_ok() { "sent" } else { "failed" });
    if let Err(error) = sent {
        tracing::error!(error = format!("{error:#}"), "a mail was not sent");
    }
}

async fn send(transport: &Transport, message: &Message) -> anyhow::Result<()> {
    let mut attempt = 1;
    loop {
        match transport.send(message.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && may_work_later(&error) => {
                tracing::warn!(%error, attempt, "the mail server did not take a mail");
                tokio::time::sleep(RETRY * attempt).await;
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A server's final no is final. After a lost answer the same code may come twice, which does no harm.
fn may_work_later(error: &SmtpError) -> bool {
    !error.is_permanent() && !error.is_client()
}

fn compose(from: Mailbox, letter: &Letter) -> anyhow::Result<Message> {
    let to = letter.to.as_str().parse().context("the address")?;
    let minutes = CODE_LIFE.as_secs() / 60;
    let text = format!(
        "Your code to sign in: {}\r\n\r\n\
         It is good for {minutes} minutes and for one sign-in. Never give it to anybody who asks \
         you for it.\r\n\
         If you did not ask to sign in, there is nothing you have to do.\r\n",
        letter.code.digits()
    );
    Message::builder()
        .from(from)
        .to(Mailbox::new(None, to))
        .subject("Your code to sign in")
        .header(ContentType::TEXT_PLAIN)
        .body(text)
        .context("the message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_has_the_code_and_only_its_recipient() {
        let letter = Letter {
            to: "ada@example.com".parse().unwrap(),
            code: "000042".parse().unwrap(),
        };
        let from: Mailbox = "Shop <no-reply@shop.example>".parse().unwrap();
        let mail = compose(from, &letter).unwrap();
        let text = String::from_utf8(mail.formatted()).unwrap();
        assert!(text.contains("To: ada@example.com\r\n"), "{text}");
        assert!(text.contains("sign in: 000042\r\n"), "{text}");
        let to = mail.envelope().to();
        assert_eq!(to.len(), 1, "{to:?}");
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused_without_being_quoted() {
        let settings = |url: &str| MailSettings {
            url: Secret::new(url),
            from: "no-reply@shop.example".parse().unwrap(),
        };
        let refused = Mailer::new(&settings("http://shop:hunter2@mail.example"));
        let error = refused.err().unwrap().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(Mailer::new(&settings("smtps://shop:hunter2@mail.example")).is_ok());
    }
}
