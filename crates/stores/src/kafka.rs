//! Where the log is, and how its clients sign in.

use seckill_eventlog::{
    KafkaSettings, Properties, SchemaRegistry, Topics, check_brokers, check_topic_prefix,
};
use seckill_service::settings::Reader;

use crate::registry::registry;

/// Any other of librdkafka's settings: `KAFKA_CONFIG_SOCKET_KEEPALIVE_ENABLE` is `socket.keepalive.enable`.
const ANY_OTHER: &str = "KAFKA_CONFIG_";

/// Settings with a name of their own, and librdkafka's for each.
const NAMED: [(&str, &str); 7] = [
    ("KAFKA_SECURITY_PROTOCOL", "security.protocol"),
    ("KAFKA_SASL_MECHANISM", "sasl.mechanism"),
    ("KAFKA_SASL_USERNAME", "sasl.username"),
    ("KAFKA_SASL_PASSWORD", "sasl.password"),
    ("KAFKA_SSL_CA_LOCATION", "ssl.ca.location"),
    ("KAFKA_SSL_CERTIFICATE_LOCATION", "ssl.certificate.location"),
    ("KAFKA_SSL_KEY_LOCATION", "ssl.key.location"),
];

const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512";

/// Where the event topics are.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `KAFKA_BROKERS`: `host:port[,host:port…]`.
    pub brokers: String,
    /// `TOPIC_PREFIX`: put before every topic's and group's name and every key in Redis; usually empty.
    pub topic_prefix: String,
    /// `EVENT_PARTITIONS`: how many partitions the event topic has to have.
    pub partitions: i32,
    /// `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_…`, `KAFKA_SSL_…` and `KAFKA_CONFIG_…`.
    pub properties: Properties,
    /// `SCHEMA_REGISTRY_…`: one for all clients, so that each knows what another has learned.
    pub registry: Option<SchemaRegistry>,
}

impl Kafka {
    /// Reads and checks all of them. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let brokers: Option<String> = reader.required("KAFKA_BROKERS");
        let brokers = reader.accept("KAFKA_BROKERS", brokers, |b| check_brokers(b));
        let topic_prefix = reader.or("TOPIC_PREFIX", String::new());
        let topic_prefix = reader.accept("TOPIC_PREFIX", topic_prefix, |p| check_topic_prefix(p));
        let partitions = reader.or("EVENT_PARTITIONS", 12);
        if partitions.is_some_and(|count| count < 1) {
            reader.refuse("EVENT_PARTITIONS", "is less than 1");
        }
        let (properties, registry) = (properties(reader), registry(reader));
        Some(Self {
            brokers: brokers?,
            topic_prefix: topic_prefix?,
            partitions: partitions?,
            properties: properties?,
            registry: registry?,
        })
    }

    /// For a client of this name.
    #[must_use]
    pub fn client(&self, client_id: &str) -> KafkaSettings {
        KafkaSettings {
            properties: self.properties.clone(),
            registry: self.registry.clone(),
            ..KafkaSettings::new(&self.brokers, client_id)
        }
    }

    /// The deployment's topics.
    #[must_use]
    pub fn topics(&self) -> Topics {
        Topics::new(&self.topic_prefix)
    }
}

fn properties(reader: &mut Reader<'_>) -> Option<Properties> {
    let mut properties = Properties::default();
    let mut is_good = true;
    for (setting, name) in NAMED {
        // All are read as secrets: an error has the name alone.
        let value = reader.optional_secret(setting, 1);
        let taken = reader.accept(setting, value, |value| match value {
            Some(value) => properties.set(name, value.expose()),
            None => Ok(()),
        });
        is_good &= taken.is_some();
    }
    is_good &= check_together(reader).is_some();
    for (setting, _) in NAMED {
        if setting != "KAFKA_SASL_PASSWORD" {
            reader.show(setting);
        }
    }
    for setting in reader.names(ANY_OTHER) {
        let name = setting[ANY_OTHER.len()..].to_lowercase().replace('_', ".");
        let value = reader.secret(&setting, 1);
        let taken = reader.accept(&setting, value, |value| {
            match NAMED.iter().find(|(_, taken)| *taken == name) {
                Some((own, _)) => Err(format!("{name} has a setting of its own, {own}")),
                None => properties.set(&name, value.expose()),
            }
        });
        is_good &= taken.is_some();
    }
    if is_good && let Err(why) = properties.check() {
        reader.refuse("KAFKA_…", &format!("cannot be used together: {why}"));
        return None;
    }
    is_good.then_some(properties)
}

/// librdkafka ignores a login or files that its protocol does not use. If they are set, the protocol is probably
/// wrong, so that is an error.
fn check_together(reader: &mut Reader<'_>) -> Option<()> {
    let protocol = reader.or("KAFKA_SECURITY_PROTOCOL", PROTOCOLS[0].to_owned())?;
    let protocol = protocol.to_lowercase();
    let mechanism: Option<String> = reader.optional("KAFKA_SASL_MECHANISM")?;
    let mut is_good = true;
    if !PROTOCOLS.contains(&protocol.as_str()) {
        let why = format!("is none of {}", PROTOCOLS.join(", "));
        reader.refuse("KAFKA_SECURITY_PROTOCOL", &why);
        return None;
    }
    if mechanism.is_some_and(|mechanism| !MECHANISMS.split(", ").any(|known| known == mechanism)) {
        let why = format!("is none of {MECHANISMS}");
        reader.refuse("KAFKA_SASL_MECHANISM", &why);
        is_good = false;
    }
    for (setting, _) in NAMED {
        let is_set = reader.optional_secret(setting, 1)?.is_some();
        let is_login = setting.starts_with("KAFKA_SASL_");
        let wanted = is_login && protocol.starts_with("sasl_");
        let is_file = setting.starts_with("KAFKA_SSL_");
        if (is_login && is_set != wanted) || (is_file && is_set && !protocol.ends_with("ssl")) {
            let is = if is_set { "has no use" } else { "is not set" };
            reader.refuse(
                setting,
                &format!("{is} with KAFKA_SECURITY_PROTOCOL={protocol}"),
            );
            is_good = false;
        }
    }
    is_good.then_some(())
}

#[cfg(test)]
mod tests {
    use seckill_service::settings::{SettingsError, Source};

    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Kafka, SettingsError> {
        let brokers = [("KAFKA_BROKERS", "a:9092")];
        let source = Source::from_iter(brokers.iter().chain(settings).copied());
        let mut reader = Reader::new(&source);
        let kafka = Kafka::read(&mut reader);
        reader.finish(kafka)
    }

    #[test]
    fn a_login_is_read_and_not_printed() {
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "hunter2\n").unwrap();
        let kafka = read(&[
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
            ("KAFKA_SASL_USERNAME", "shop"),
            (
                "KAFKA_SASL_PASSWORD_FILE",
                password.path().to_str().unwrap(),
            ),
            ("KAFKA_CONFIG_SOCKET_NAGLE_DISABLE", "true"),
        ])
        .unwrap();
        let printed = format!("{:?}", kafka.client("test"));
        assert!(printed.contains("sasl.password"), "{printed}");
        assert!(printed.contains("socket.nagle.disable"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn settings_that_would_be_ignored_or_would_break_the_design_are_refused_by_name() {
        let sasl = ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL");
        for (settings, named) in [
            (
                &[("KAFKA_SECURITY_PROTOCOL", "hunter2")][..],
                "KAFKA_SECURITY_PROTOCOL",
            ),
            (&[("KAFKA_SASL_PASSWORD", "hunter2")], "KAFKA_SASL_PASSWORD"),
            (&[("KAFKA_SSL_CA_LOCATION", "/ca")], "KAFKA_SSL_CA_LOCATION"),
            (&[sasl], "KAFKA_SASL_USERNAME"),
            (
                &[sasl, ("KAFKA_SASL_MECHANISM", "OAUTHBEARER")],
                "SCRAM-SHA-256",
            ),
            (&[("KAFKA_CONFIG_ACKS", "1")], "KAFKA_CONFIG_ACKS"),
            (
                &[("KAFKA_CONFIG_ENABLE_IDEMPOTENCE", "false")],
                "part of the design",
            ),
            (
                &[("KAFKA_CONFIG_SASL_PASSWORD", "hunter2")],
                "KAFKA_SASL_PASSWORD",
            ),
            (
                &[("KAFKA_CONFIG_NO_SUCH_THING", "hunter2")],
                "no.such.thing",
            ),
            (
                &[
                    ("KAFKA_SECURITY_PROTOCOL", "SSL"),
                    ("KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem"),
                ],
                "ssl.ca.location",
            ),
        ] {
            let SettingsError(mistakes) = read(settings).expect_err("it is refused");
            let mistakes = mistakes.join("\n");
            assert!(mistakes.contains(named), "{named}: {mistakes}");
            assert!(!mistakes.contains("hunter2"), "{mistakes}");
        }
    }
}
