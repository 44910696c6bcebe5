//! Mails are sent in the background, so that a client cannot learn anything from how long a server takes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::Error as SmtpError;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use seckill_identity::{Address, Code};
use seckill_service::settings::Secret;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::codes::CODE_LIFE;
use super::queue::{self, FairQueue};

use crate::metrics;

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
    pub from: Mailbox,
}

#[derive(Debug)]
struct Letter {
    to: Address,
    code: Code,
}

/// A place in the queue.
pub struct Place(queue::Place<Letter>);

/// The handle of the queue.
#[derive(Debug)]
pub struct Mailer(FairQueue<Letter>);

/// The task that empties the queue.
pub struct Postman {
    letters: FairQueue<Letter>,
    transport: Transport,
    from: Mailbox,
}

/// Checks that this is the URL of a mail server ([`MailSettings::url`]), and that mails to it are encrypted.
///
/// # Errors
/// Why it is not.
pub fn check_url(url: &Secret, without_tls_to: Option<&str>) -> Result<(), &'static str> {
    // The library's own error would quote the address, and the password with it.
    Transport::from_url(url.expose()).map_err(|_| "it is no smtp:// or smtps:// URL")?;
    let Some((server, query)) = without_tls(url.expose()) else {
        return Ok(());
    };
    let is_loopback = |host: &str| {
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
    };
    // It would be opportunistic: an attacker in between can claim that there is no TLS.
    let is_encrypted = query.split('&').any(|pair| pair == "tls=required");
    if is_encrypted || is_loopback(server) || without_tls_to == Some(server) {
        Ok(())
    } else {
        Err(
            "mails with codes would go unencrypted: add ?tls=required, or name the host in SMTP_WITHOUT_TLS_TO",
        )
    }
}

/// The host and the query of an `smtp://` URL.
fn without_tls(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.trim().split_once("://")?;
    if !scheme.eq_ignore_ascii_case("smtp") {
        return None;
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or(rest);
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let end = host
        .rfind(':')
        .filter(|colon| !host[*colon..].contains(']'));
    Some((&host[..end.unwrap_or(host.len())], query))
}

impl Mailer {
    /// A queue and who empties it.
    ///
    /// # Errors
    /// When the URL is not that of a mail server.
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
            // First wait for a free sender, then take the mail whose turn it is by then.
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
    metrics::MAILS.with([result]).increment(1);
}

/// After a lost mail its reader can ask again in a minute. The log says why it was lost, never the address or the text.
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
                let error = told(&error);
                tracing::warn!(error, attempt, "the mail server did not take a mail");
                tokio::time::sleep(RETRY * attempt).await;
                attempt += 1;
            }
            Err(error) => anyhow::bail!(told(&error)),
        }
    }
}

/// Without the server's text, which often quotes the address.
fn told(error: &SmtpError) -> String {
    match error.status() {
        Some(code) => format!("the mail server answered {code}"),
        None => error.to_string(),
    }
}

/// A permanent refusal of the server is not retried. After a lost answer the same code may be sent twice, which does
/// no harm.
fn may_work_later(error: &SmtpError) -> bool {
    !error.is_permanent() && !error.is_client()
}

fn compose(from: Mailbox, letter: &Letter) -> anyhow::Result<Message> {
    // The library's own error may quote it.
    let to = letter.to.as_str().parse();
    let to = to.map_err(|_| anyhow::anyhow!("the library takes the address for none"))?;
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

    #[test]
    fn mails_go_unencrypted_to_this_machine_alone_and_where_they_are_told_to() {
        let check = |url: &str| check_url(&Secret::new(url), Some("mail"));
        for good in [
            "smtps://mail.example",
            "smtp://shop:hunter2@mail.example:587?tls=required",
            "smtp://127.0.0.1:1025",
            "smtp://127.8.9.1",
            "smtp://[::1]:1025",
            "smtp://localhost:25",
            "smtp://mail:1025",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "smtp://mail.example",
            "SMTP://mail.example:25",
            "smtp://mail.example:25?tls=opportunistic",
            "smtp://localhost:x@mail.example",
            "smtp://localhost.mail.example",
            "smtp://[2001:db8::1]:25",
            "smtp://mail.example/?tls=",
            "http://mail.example",
        ] {
            let refused = check(bad).unwrap_err();
            assert!(!refused.contains("mail.example"), "{refused}");
        }
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
