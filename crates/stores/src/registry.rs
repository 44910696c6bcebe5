//! Where the schema registry is, if there is one, and what a start asks of it.

use std::path::PathBuf;

use seckill_eventlog::{KafkaSettings, RegistrySettings, SchemaRegistry, Topics, learn_schema_ids};
use seckill_service::health::{Health, Unmet};
use seckill_service::settings::Reader;

const URL: &str = "SCHEMA_REGISTRY_URL";
const USERNAME: &str = "SCHEMA_REGISTRY_USERNAME";
const PASSWORD: &str = "SCHEMA_REGISTRY_PASSWORD";
const CA: &str = "SCHEMA_REGISTRY_SSL_CA_LOCATION";

/// `SCHEMA_REGISTRY_…`. The outer `None`: `reader` knows what is wrong.
pub(crate) fn registry(reader: &mut Reader<'_>) -> Option<Option<SchemaRegistry>> {
    // Read as a secret, so that a login in the URL is not printed.
    let url = reader.optional_secret(URL, 1);
    let username: Option<Option<String>> = reader.optional(USERNAME);
    let password = reader.optional_secret(PASSWORD, 1);
    let ca: Option<Option<PathBuf>> = reader.optional(CA);
    let (url, username, password, ca) = (url?, username?, password?, ca?);
    let Some(url) = url else {
        let given = [
            (USERNAME, username.is_some()),
            (PASSWORD, password.is_some()),
            (CA, ca.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, is_set)| *is_set) {
            reader.refuse(name, &format!("has no use without {URL}"));
        }
        return given.iter().all(|(_, is_set)| !is_set).then_some(None);
    };
    let login = match (username, password) {
        (Some(user), Some(password)) => Some((user, password.expose().to_owned())),
        (None, None) => None,
        (user, _) => {
            let missing = if user.is_none() { USERNAME } else { PASSWORD };
            reader.refuse(missing, "is not set, and the other half of the login is");
            return None;
        }
    };
    let settings = RegistrySettings {
        url: url.expose().to_owned(),
        login,
        ca,
    };
    match SchemaRegistry::new(&settings) {
        Ok(registry) => Some(Some(registry)),
        Err(why) => {
            reader.refuse(why.which(URL, CA), &format!("cannot be used: {why}"));
            None
        }
    }
}

/// Waits until the registry has told the ids of all schemas that are written, naming `schema-registry` in
/// `/readyz`. Where none is set, there is no such condition.
///
/// # Errors
/// None: waiting may mend all of it.
pub async fn wait_for_schema_ids(
    health: &Health,
    settings: &KafkaSettings,
    topics: &Topics,
) -> Result<(), Unmet> {
    if settings.registry.is_none() {
        return Ok(());
    }
    let ask = || learn_schema_ids(settings, topics);
    health.wait_for("schema-registry", |_| false, ask).await
}

#[cfg(test)]
mod tests {
    use seckill_service::settings::{SettingsError, Source};

    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Option<SchemaRegistry>, SettingsError> {
        let source = Source::from_iter(settings.iter().copied());
        let mut reader = Reader::new(&source);
        let registry = registry(&mut reader);
        reader.finish(registry)
    }

    #[test]
    fn without_an_address_there_is_none() {
        assert_eq!(read(&[]), Ok(None));
        let found = read(&[
            (URL, "https://registry:8081/apis/ccompat/v7/"),
            (USERNAME, "shop"),
            (PASSWORD, "hunter2"),
        ]);
        let printed = format!("{:?}", found.unwrap().unwrap());
        assert!(printed.contains("https://registry:8081/apis/ccompat/v7"));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn what_would_be_ignored_or_could_not_be_used_is_refused_by_name() {
        let url = (URL, "http://registry");
        for (settings, named) in [
            (&[(PASSWORD, "hunter2")][..], PASSWORD),
            (&[(USERNAME, "shop")], USERNAME),
            (&[(CA, "/ca.pem")], CA),
            (&[url, (USERNAME, "shop")], PASSWORD),
            (&[url, (PASSWORD, "hunter2")], USERNAME),
            (&[url, (CA, "/ca.pem")], CA),
            (&[(URL, "registry:8081")], URL),
            (
                &[(URL, "http://shop:hunter2@registry")],
                "settings of its own",
            ),
            (
                &[(URL, "https://registry"), (CA, "/nowhere.pem")],
                "SCHEMA_REGISTRY_SSL_CA_LOCATION cannot be used: /nowhere.pem",
            ),
        ] {
            let SettingsError(mistakes) = read(settings).expect_err(named);
            let mistakes = mistakes.join("\n");
            assert!(mistakes.contains(named), "{named}: {mistakes}");
            assert!(!mistakes.contains("hunter2"), "{mistakes}");
        }
    }
}
