//! Settings that say where the topics are, checked before anything connects: librdkafka takes almost any
//! text for an address, and then tries for ever.

/// The longest that leaves room for the topics' own names: Kafka's limit is 249.
const PREFIX_MAX_BYTES: usize = 200;

/// Whether `brokers` are bootstrap servers: `host[:port]`, separated by commas.
///
/// # Errors
/// The one that is not.
pub fn check_brokers(brokers: &str) -> Result<(), String> {
    for broker in brokers.split(',') {
        if !is_broker(broker.trim()) {
            return Err(format!(
                "{broker:?} is no host:port; several are separated by commas"
            ));
        }
    }
    Ok(())
}

/// Whether topics can have this prefix.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic_prefix(prefix: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(other) = prefix.chars().find(|c| !legal(*c)) {
        return Err(format!(
            "topics' names have letters, digits, '.', '_' and '-', no {other:?}"
        ));
    }
    if prefix.len() > PREFIX_MAX_BYTES {
        return Err(format!("it is longer than {PREFIX_MAX_BYTES} bytes"));
    }
    Ok(())
}

/// What [`check_brokers`] takes for this host, which may be an IPv6 address.
pub(crate) fn broker_at(host: &str, port: i32) -> String {
    if host.contains(':') {
        return format!("[{host}]:{port}");
    }
    format!("{host}:{port}")
}

fn is_broker(broker: &str) -> bool {
    let (host, port) = match broker
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
        None => broker
            .split_once(':')
            .map_or((broker, None), |(host, port)| (host, Some(port))),
    };
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | ':' | '%');
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    !host.is_empty() && host.chars().all(in_name) && port_is_one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_can_be_asked_at_the_address_that_it_advertises() {
        for (host, broker) in [
            ("kafka-1.example", "kafka-1.example:9092"),
            ("192.0.2.7", "192.0.2.7:9092"),
            ("2001:db8::7", "[2001:db8::7]:9092"),
        ] {
            assert_eq!(broker_at(host, 9092), broker);
            assert!(check_brokers(broker).is_ok());
        }
    }

    #[test]
    fn brokers_are_hosts_with_or_without_a_port() {
        for good in [
            "localhost:9092",
            "kafka",
            "a:1,b:2",
            "a:1, b:2",
            "[::1]:9092",
            "10.0.0.7:9092",
        ] {
            assert_eq!(check_brokers(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a:1,",
            "a:port",
            "a:0",
            "a:70000",
            "http://a:1",
            "a b:1",
            "[::1]9092x",
            "::1:9092",
        ] {
            assert!(check_brokers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_of_what_topics_names_are_of() {
        assert_eq!(check_topic_prefix(""), Ok(()));
        assert_eq!(check_topic_prefix("shop-2.eu_"), Ok(()));
        for bad in ["a b", "a/", "é", &"x".repeat(201)] {
            assert!(check_topic_prefix(bad).is_err(), "{bad}");
        }
    }
}
