//! A schema registry's ids in the framing: what they stand for is asked once, and known ever after.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use seckill_domain::EventBody;
use seckill_eventlog::{
    DecodeError, KafkaSettings, RegistryError, RegistrySettings, SchemaRegistry, Topics,
    check_schemas, decode_event, encode_event, learn_schema_ids, register_schemas,
};
use seckill_testkit::SchemaRegistry as StandIn;
use seckill_testkit::tls::{Authority, Certificate};

use crate::samples::{event, reserved};
use crate::versions::versions;

const SUBJECT: &str = "seckill.order-events.v1-seckill.v1.SeckillReserved";

fn client(url: String) -> SchemaRegistry {
    let (login, ca) = (None, None);
    SchemaRegistry::new(&RegistrySettings { url, login, ca }).unwrap()
}

/// An event in Confluent's framing, and the event.
fn framed(id: u32) -> (Vec<u8>, seckill_domain::Event) {
    let event = event(EventBody::SeckillReserved(reserved(None)));
    let body = &encode_event(&event)[10..];
    ([&[0][..], &id.to_be_bytes(), body].concat(), event)
}

fn why_unknown(message: &[u8]) -> String {
    match decode_event(message) {
        Err(error @ DecodeError::UnknownSchemaId { .. }) if error.is_not_known_yet() => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

fn schema(record: &str, version: usize) -> String {
    versions()[record][version - 1].clone()
}

#[tokio::test]
async fn every_version_that_ever_landed_is_read_under_an_id_of_the_registry() {
    let registry = StandIn::start().unwrap();
    let mut ids = Vec::new();
    for (record, versions) in versions() {
        for json in versions {
            ids.push(registry.add(&record, &json).unwrap());
        }
    }
    assert_eq!(client(registry.url()).meet(ids).await, [0; 0]);
}

#[tokio::test]
async fn an_id_is_asked_for_once_and_known_while_the_registry_is_away() {
    let mut registry = StandIn::start().unwrap();
    let id = registry
        .add(SUBJECT, &schema("SeckillReserved", 1))
        .unwrap();
    let (message, expected) = framed(id);
    assert!(why_unknown(&message).contains("no schema registry"));
    let client = client(registry.url());
    for _ in 0..3 {
        assert_eq!(client.meet(vec![id]).await, [0; 0]);
        assert_eq!(decode_event(&message), Ok(expected.clone()));
    }
    assert_eq!(registry.asked(), 1);
    registry.go_away();
    assert_eq!(decode_event(&message), Ok(expected));
}

#[tokio::test]
async fn an_id_that_is_not_there_or_not_ours_or_cannot_be_asked_for_is_not_known_yet() {
    let mut registry = StandIn::start().unwrap();
    let client = client(registry.url());
    let other = r#"{"type":"record","name":"Other","namespace":"shop","fields":[]}"#;
    let foreign = registry.add(SUBJECT, other).unwrap();
    let missing = registry.next_id();
    let never = missing + 1;
    assert_eq!(
        client.meet(vec![foreign, missing]).await,
        [foreign, missing]
    );
    let why = why_unknown(&framed(foreign).0);
    assert!(why.contains("shop.Other"), "{why}");
    let why = why_unknown(&framed(missing).0);
    assert!(why.contains("does not have it"), "{why}");
    registry.go_away();
    assert_eq!(client.meet(vec![never]).await, [never]);
    let why = why_unknown(&framed(never).0);
    assert!(why.contains("does not answer"), "{why}");
}

#[tokio::test]
async fn a_registry_that_wants_another_login_says_so_and_nobody_tells_the_password() {
    let registry = StandIn::with_login("c2hvcDpodW50ZXIy").unwrap();
    let with = |password: &str| {
        SchemaRegistry::new(&RegistrySettings {
            url: registry.url(),
            login: Some(("shop".to_owned(), password.to_owned())),
            ca: None,
        })
    };
    let wrong = with("hunter3").unwrap();
    let refusal = check_schemas(&wrong, &Topics::new("")).await.unwrap_err();
    assert!(matches!(
        refusal,
        RegistryError::Refused { status: 401, .. }
    ));
    assert!(!format!("{refusal} {wrong:?}").contains("hunter"));
    let right = with("hunter2").unwrap();
    assert!(check_schemas(&right, &Topics::new("")).await.is_ok());
}

/// TLS in front of a registry, for one question after the other.
fn tls_in_front_of(registry: &StandIn, certificate: &Certificate) -> u16 {
    let chain = CertificateDer::pem_file_iter(&certificate.certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(&certificate.key).unwrap(),
        );
    let config = Arc::new(config.unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, behind) = (listener.local_addr().unwrap().port(), registry.url());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(session, stream);
            let mut request = [0; 4_096];
            // A client that does not trust it says nothing.
            let Ok(length) = tls.read(&mut request) else {
                continue;
            };
            let mut plain = TcpStream::connect(behind.trim_start_matches("http://")).unwrap();
            plain.write_all(&request[..length]).unwrap();
            std::io::copy(&mut plain, &mut tls).unwrap();
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        }
    });
    port
}

#[tokio::test]
async fn a_registry_over_tls_is_asked_if_its_certificate_is_of_who_is_trusted() {
    let registry = StandIn::start().unwrap();
    let id = registry
        .add(SUBJECT, &schema("SeckillReserved", 1))
        .unwrap();
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    let port = tls_in_front_of(&registry, &authority.issue("registry").unwrap());
    let trusting = |ca| {
        SchemaRegistry::new(&RegistrySettings {
            url: format!("https://localhost:{port}"),
            login: None,
            ca,
        })
    };
    for (ca, why) in [(Some(other.ca()), "UnknownIssuer"), (None, "UnknownIssuer")] {
        let refusal = check_schemas(&trusting(ca).unwrap(), &Topics::new("")).await;
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains(why), "{refusal}");
    }
    let trusted = trusting(Some(authority.ca())).unwrap();
    assert_eq!(trusted.meet(vec![id]).await, [0; 0]);
}

#[tokio::test]
async fn what_is_registered_is_learned_and_what_does_not_fit_is_not_registered() {
    let registry = StandIn::start().unwrap();
    let (client, topics) = (client(registry.url()), Topics::new("shop."));
    let settings = KafkaSettings {
        registry: Some(client.clone()),
        ..KafkaSettings::new("localhost:1", "test")
    };
    let refusal = learn_schema_ids(&settings, &topics).await.unwrap_err();
    assert!(refusal.to_string().contains("seckillctl schemas register"));
    // An old version is there, under the registry's own rule.
    let subject = "shop.seckill.order-events.v1-seckill.v1.SaleReloaded";
    registry.add(subject, &schema("SaleReloaded", 1)).unwrap();
    let found = check_schemas(&client, &topics).await.unwrap();
    let of = |all: &[seckill_eventlog::RegisteredSchema], subject: &str| {
        all.iter().find(|s| s.subject == subject).unwrap().clone()
    };
    let before = of(&found, subject);
    assert_eq!((before.id, before.versions), (None, 1));
    assert!(before.faults()[0].contains("BACKWARD"), "{before:?}");

    let registered = register_schemas(&client, &topics).await.unwrap();
    assert_eq!(registered.len(), 13);
    assert!(
        registered
            .iter()
            .all(|s| s.id.is_some() && s.faults().is_empty())
    );
    assert_eq!(of(&registered, subject).versions, 2);
    let again = register_schemas(&client, &topics).await.unwrap();
    assert_eq!(again, registered);
    learn_schema_ids(&settings, &topics).await.unwrap();

    let lossy = schema("OrderPaid", 1).replace("\"amount_cents\"", "\"amount\"");
    let topics = Topics::new("other.");
    let subject = "other.seckill.order-events.v1-seckill.v1.OrderPaid";
    registry.add(subject, &lossy).unwrap();
    let refused = register_schemas(&client, &topics).await.unwrap();
    let misfit = of(&refused, subject);
    assert!(
        misfit.faults()[0].starts_with("version 1 of the registry"),
        "{misfit:?}"
    );
    assert!(refused.iter().all(|s| s.id.is_none()), "{refused:?}");
}
