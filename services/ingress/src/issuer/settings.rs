//! Which identity provider, and for whom its tokens have to be made.

use seckill_http_client::Fetcher;
use seckill_service::settings::Reader;

/// Whose tokens are good, and for whom they have to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// As `iss` of its tokens has it.
    pub issuer: String,
    /// What `aud` has to be, or to have.
    pub audience: String,
}

impl IssuerSettings {
    /// Reads the settings of these two names, which are both set or neither. None: at least one is wrong, and noted as such.
    pub fn read(reader: &mut Reader<'_>, issuer: &str, audience: &str) -> Option<Option<Self>> {
        let url: Option<Option<String>> = reader.optional(issuer);
        let url = reader.accept(issuer, url, |url| {
            url.as_deref().map_or(Ok(()), Fetcher::check)
        });
        let name: Option<Option<String>> = reader.optional(audience);
        let missing = match (url?, name?) {
            (None, None) => return Some(None),
            (Some(issuer), Some(audience)) => return Some(Some(Self { issuer, audience })),
            (Some(_), None) => (audience, issuer),
            (None, Some(_)) => (issuer, audience),
        };
        reader.refuse(missing.0, &format!("has to be set with {}", missing.1));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_service::settings::{SettingsError, Source};

    const URL: &str = "https://login.example/realms/shop";

    fn read(settings: &[(&str, &str)]) -> Result<Option<IssuerSettings>, SettingsError> {
        let source = Source::from_iter(settings.iter().copied());
        let mut reader = Reader::new(&source);
        let issuer = IssuerSettings::read(&mut reader, "A_ISSUER", "AN_AUDIENCE");
        reader.finish(issuer)
    }

    #[test]
    fn both_are_set_or_neither_and_what_is_wrong_is_named() {
        assert_eq!(read(&[]), Ok(None));
        let both = read(&[("A_ISSUER", URL), ("AN_AUDIENCE", "shop")]).unwrap();
        assert_eq!(
            both.map(|both| (both.issuer, both.audience)),
            Some((URL.to_owned(), "shop".to_owned()))
        );
        for (settings, named) in [
            (&[("A_ISSUER", URL)][..], "AN_AUDIENCE has to be set"),
            (&[("AN_AUDIENCE", "shop")], "A_ISSUER has to be set"),
            (
                &[
                    ("A_ISSUER", "http://login.example"),
                    ("AN_AUDIENCE", "shop"),
                ],
                "A_ISSUER ",
            ),
        ] {
            let SettingsError(mistakes) = read(settings).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(mistakes[0].starts_with(named), "{mistakes:?}");
        }
    }
}
