use actix_web::http::header::{HeaderName, HeaderValue};
use seckill_credentials::signature;
use standardwebhooks::Webhook as Official;

use super::*;

const NOW: i64 = 1_800_000_000;
const BODY: &[u8] = br#"{"payment_id":"p-1"}"#;

fn secret() -> Secret {
    Secret::new("a webhook secret")
}

fn webhook() -> Webhook {
    Webhook::new(&secret(), None).unwrap()
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in of {
        let value = HeaderValue::from_str(value).unwrap();
        headers.append(HeaderName::from_static(name), value);
    }
    headers
}

fn sign(secret: &Secret, unix_seconds: i64, body: &[u8]) -> String {
    signature::sign(secret.expose(), unix_seconds, body)
}

/// As the handler does it.
fn verify(webhook: &Webhook, now: i64, header: &str, body: &[u8]) -> Result<(), SignatureError> {
    let claim = webhook.claim(&headers(&[("x-signature", header)]), now)?;
    webhook.check(&claim, body)
}

#[test]
fn the_signature_is_hmac_sha256_of_time_dot_body() {
    // RFC 4231 has no such input; computed with OpenSSL:
    // printf '1800000000.{"payment_id":"p-1"}' | openssl dgst -sha256 -hmac 'a webhook secret'
    let expected = "95479e8d61657df5311023ae283054f182aa39a41792fe8751dea7b838818c0c";
    assert_eq!(sign(&secret(), NOW, BODY), format!("t={NOW},v1={expected}"));
}

#[test]
fn a_signature_is_good_for_its_body_and_time_only() {
    let (webhook, good) = (webhook(), sign(&secret(), NOW, BODY));
    assert_eq!(verify(&webhook, NOW, &good, BODY), Ok(()));
    assert_eq!(verify(&webhook, NOW + 300, &good, BODY), Ok(()));
    assert_eq!(verify(&webhook, NOW - 300, &good, BODY), Ok(()));
    for late in [NOW + 301, NOW - 301, i64::MIN, i64::MAX] {
        let checked = verify(&webhook, late, &good, BODY);
        assert_eq!(checked, Err(SignatureError::Stale), "{late}");
    }
    let wrong = Err(SignatureError::Wrong);
    assert_eq!(verify(&webhook, NOW, &good, b"{}"), wrong);
    let another = Webhook::new(&Secret::new("another"), None).unwrap();
    assert_eq!(verify(&another, NOW, &good, BODY), wrong);
    let moved = good.replace(&format!("t={NOW}"), &format!("t={}", NOW + 1));
    assert_eq!(verify(&webhook, NOW, &moved, BODY), wrong);
}

#[test]
fn one_of_several_signatures_and_of_two_secrets_is_enough() {
    let (old, new) = (Secret::new("the old one"), Secret::new("the new one"));
    let (by_old, by_new) = (sign(&old, NOW, BODY), sign(&new, NOW, BODY));
    let code = by_new.split_once(',').unwrap().1;
    let both = [format!("{by_old},{code}"), format!("{code},v0=x,{by_old}")];
    for secret in [&old, &new] {
        let only = Webhook::new(secret, None).unwrap();
        for header in &both {
            assert_eq!(verify(&only, NOW, header, BODY), Ok(()), "{header}");
        }
    }
    let changing = Webhook::new(&new, Some(&old)).unwrap();
    for header in [&by_old, &by_new] {
        assert_eq!(verify(&changing, NOW, header, BODY), Ok(()));
    }
    let by_another = sign(&secret(), NOW, BODY);
    assert!(verify(&changing, NOW, &by_another, BODY).is_err());
}

#[test]
fn what_is_no_signature_is_refused_without_a_panic() {
    let code = "00".repeat(32);
    for header in [
        "",
        "t=",
        "t=1",
        &format!("v1={code}"),
        &format!("t=x,v1={code}"),
        &format!("t=+5,v1={code}"),
        &format!("t=05,v1={code}"),
        &format!("t=5,t=5,v1={code}"),
        &format!("t=5;v1={code}"),
        &format!("t=5,v2={code}"),
        "t=5,v1=zz",
        "t=5,v1=00",
    ] {
        let checked = verify(&webhook(), 5, header, BODY);
        assert_eq!(checked, Err(SignatureError::Malformed), "{header:?}");
    }
    let twice = sign(&secret(), NOW, BODY);
    let twice = headers(&[("x-signature", &twice), ("x-signature", &twice)]);
    let checked = webhook().claim(&twice, NOW);
    assert_eq!(checked, Err(SignatureError::Malformed));
    let checked = webhook().claim(&HeaderMap::new(), NOW);
    assert_eq!(checked, Err(SignatureError::Missing));
}

/// What the official library of Standard Webhooks sends.
fn standard_headers(official: &Official, id: &str, time: &str, body: &[u8]) -> HeaderMap {
    let signature = official.sign(id, time.parse().unwrap(), body).unwrap();
    headers(&[
        ("webhook-id", id),
        ("webhook-timestamp", time),
        ("webhook-signature", &signature),
    ])
}

#[test]
fn what_the_official_library_of_standard_webhooks_signs_is_good() {
    let time = NOW.to_string();
    let with_prefix = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDN0XvSBk2cdk=";
    let raw = "a webhook secret of thirty-two bytes";
    for (official, ours) in [
        (Official::new(with_prefix).unwrap(), with_prefix),
        (Official::from_bytes(raw.into()).unwrap(), raw),
    ] {
        let webhook = Webhook::new(&Secret::new(ours), None).unwrap();
        let signed = standard_headers(&official, "msg_1", &time, BODY);
        let claim = webhook.claim(&signed, NOW).unwrap();
        assert_eq!(webhook.check(&claim, BODY), Ok(()), "{ours}");
        assert_eq!(webhook.check(&claim, b"{}"), Err(SignatureError::Wrong));
        let stale = webhook.claim(&signed, NOW + 301);
        assert_eq!(stale, Err(SignatureError::Stale));

        for (name, other) in [("webhook-id", "msg_2"), ("webhook-timestamp", "1800000001")] {
            let mut changed = signed.clone();
            changed.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(other),
            );
            let claim = webhook.claim(&changed, NOW).unwrap();
            assert_eq!(
                webhook.check(&claim, BODY),
                Err(SignatureError::Wrong),
                "{name}"
            );
        }
        // Several signatures, of which ours is the last; and one header left out.
        let mut several = signed.clone();
        let last = signed.get("webhook-signature").unwrap().to_str().unwrap();
        let texts = format!("v1a,x v1,{} {last}", BASE64.encode([0; 32]));
        let value = HeaderValue::from_str(&texts).unwrap();
        several.insert(HeaderName::from_static("webhook-signature"), value);
        let claim = webhook.claim(&several, NOW).unwrap();
        assert_eq!(webhook.check(&claim, BODY), Ok(()));
        several.remove("webhook-id");
        assert_eq!(webhook.claim(&several, NOW), Err(SignatureError::Missing));
    }
}

#[test]
fn a_secret_of_standard_webhooks_is_what_it_looks_like() {
    for bad in ["whsec_", "whsec_%%%", "whsec_AAAA"] {
        assert!(check_secret(&Secret::new(bad)).is_err(), "{bad}");
    }
    assert!(check_secret(&secret()).is_ok());
    let printed = format!("{:?}", webhook());
    assert!(!printed.contains("97, 32"), "{printed}");
}
