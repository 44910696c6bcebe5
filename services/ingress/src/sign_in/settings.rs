//! How people sign in.

use std::time::Duration;

use lettre::message::Mailbox;
use seckill_identity::{Domain, Limits};
use seckill_service::settings::{Reader, Secret};

use super::mailer::{MailSettings, check_url};
use super::throttle::PerMinute;

const TOKEN_LIFE_SECONDS: u64 = 3600;
/// Below this a quarter of the life is no whole second.
const TOKEN_LIFE_MIN_SECONDS: u64 = 4;
const CLIENT_PER_MINUTE: u32 = 60;
const GLOBAL_PER_MINUTE: u32 = 6_000;
const MAIL_FROM: &str = "Flash sale <no-reply@localhost>";

/// The settings of the sign-in.
#[derive(Debug, Clone)]
pub struct SignInSettings {
    /// The mail server; without one nobody signs in by mail.
    pub mail: Option<MailSettings>,
    /// Whose addresses may sign in; none: everybody's.
    pub allowed_domains: Vec<Domain>,
    /// How often a code is sent to one mailbox.
    pub limits: Limits,
    /// How many codes may be asked for, and how many attempts made.
    pub per_minute: PerMinute,
    /// Whether all addresses of a mailbox are one user.
    pub mailbox_is_one_user: bool,
    /// How long a token is good.
    pub token_life: Duration,
}

impl SignInSettings {
    /// Reads `SMTP_URL`, `MAIL_FROM`, those that begin with `SIGN_IN_`, and `TOKEN_LIFE_SECONDS`. None: at
    /// least one is wrong, and noted as such.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let url: Option<Option<Secret>> = reader.optional("SMTP_URL");
        let plain: Option<Option<String>> = reader.optional("SMTP_WITHOUT_TLS_TO");
        let plain = plain.flatten();
        let url = reader.accept("SMTP_URL", url, |url| {
            url.as_ref()
                .map_or(Ok(()), |url| check_url(url, plain.as_deref()))
        });
        let from = mailbox(reader);
        let allowed_domains = domains(reader);
        let limits = reader.or("SIGN_IN_LIMITS", Limits::default());
        let client = reader.or("SIGN_IN_CLIENT_PER_MINUTE", CLIENT_PER_MINUTE);
        let global = reader.or("SIGN_IN_GLOBAL_PER_MINUTE", GLOBAL_PER_MINUTE);
        let mailbox_is_one_user = reader.or("SIGN_IN_MAILBOX_IS_ONE_USER", false);
        let life_s = reader.or("TOKEN_LIFE_SECONDS", TOKEN_LIFE_SECONDS);
        if life_s.is_some_and(|seconds| seconds < TOKEN_LIFE_MIN_SECONDS) {
            reader.refuse("TOKEN_LIFE_SECONDS", "is below 4");
        }
        let from = from?;
        Some(Self {
            mail: url?.map(|url| MailSettings { url, from }),
            allowed_domains: allowed_domains?,
            limits: limits?,
            per_minute: PerMinute {
                client: client?,
                global: global?,
            },
            mailbox_is_one_user: mailbox_is_one_user?,
            token_life: Duration::from_secs(life_s?),
        })
    }
}

fn mailbox(reader: &mut Reader<'_>) -> Option<Mailbox> {
    let text = reader.or("MAIL_FROM", MAIL_FROM.to_owned())?;
    let parsed = text.parse();
    if parsed.is_err() {
        reader.refuse(
            "MAIL_FROM",
            "is no address like Shop <no-reply@example.com>",
        );
    }
    parsed.ok()
}

fn domains(reader: &mut Reader<'_>) -> Option<Vec<Domain>> {
    let text = reader.or("SIGN_IN_ALLOWED_DOMAINS", String::new())?;
    let names = text.split(',').filter(|name| !name.trim().is_empty());
    let parsed: Result<Vec<Domain>, _> = names.map(str::parse).collect();
    if let Err(error) = &parsed {
        reader.refuse("SIGN_IN_ALLOWED_DOMAINS", &error.to_string());
    }
    parsed.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_service::settings::{SettingsError, Source};

    fn read(settings: &[(&str, &str)]) -> Result<SignInSettings, SettingsError> {
        let source: Source = settings.iter().copied().collect();
        let mut reader = Reader::new(&source);
        let settings = SignInSettings::read(&mut reader);
        reader.finish(settings)
    }

    #[test]
    fn everything_has_a_default_but_the_mail_server() {
        let settings = read(&[]).unwrap();
        assert!(settings.mail.is_none() && settings.allowed_domains.is_empty());
        assert_eq!(settings.token_life, Duration::from_secs(3600));
        let settings = read(&[
            ("SMTP_URL", "smtps://shop:hunter2@mail.example"),
            ("SIGN_IN_ALLOWED_DOMAINS", "uni.example, Example.COM"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.allowed_domains.len(), 2);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn every_mistake_is_named() {
        let bad = [
            ("SMTP_URL", "http://mail.example"),
            ("MAIL_FROM", "nobody"),
            ("SIGN_IN_ALLOWED_DOMAINS", "uni.example,a b"),
            ("SIGN_IN_LIMITS", "often"),
            ("SIGN_IN_CLIENT_PER_MINUTE", "-1"),
            ("SIGN_IN_GLOBAL_PER_MINUTE", "many"),
            ("SIGN_IN_MAILBOX_IS_ONE_USER", "perhaps"),
            ("TOKEN_LIFE_SECONDS", "3"),
        ];
        let SettingsError(errors) = read(&bad).unwrap_err();
        for (name, _) in bad {
            assert!(
                errors.iter().any(|error| error.starts_with(name)),
                "{errors:?}"
            );
        }
    }
}
