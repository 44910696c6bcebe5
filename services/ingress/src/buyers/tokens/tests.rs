//! Tokens, good and bad.

use super::*;
use actix_web::http::header::{AUTHORIZATION, HeaderValue};
use actix_web::test::TestRequest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use seckill_identity::RENEWALS_MAX;
use serde_json::{Value, json};
use sha2::{Sha384, Sha512};

const SECRET: &str = "a secret for tests only";
const LIFE: Duration = Duration::from_secs(1000);

fn secret() -> Secret {
    Secret::new(SECRET)
}

fn headers(authorization: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
    headers
}

fn good_claims() -> Value {
    json!({ "sub": "42", "iat": 1, "exp": 4_000_000_000_u64, "iss": "seckill", "aud": "seckill" })
}

fn signed(key: &str, claims: &Value) -> String {
    token::sign(key, claims).unwrap()
}

/// With the right key, by another hash.
fn signed_by<M: Mac + KeyInit>(algorithm: &str, claims: &Value) -> String {
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let header = json!({ "alg": algorithm, "typ": "JWT" });
    let head = format!("{}.{}", part(&header), part(claims));
    let mac = <M as Mac>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signature = mac.chain_update(&head).finalize().into_bytes();
    format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

fn tokens() -> Tokens {
    Tokens::new(&secret(), None, LIFE, Revoked::default())
}

/// At once: a token of ours is checked without waiting for anybody.
fn caller_in(tokens: &Tokens, headers: &HeaderMap) -> Result<Caller, Problem> {
    let caller = tokens.caller(headers).now_or_never();
    caller.expect("nobody was asked")
}

fn authenticate(token: &str) -> Option<UserId> {
    let caller = caller_in(&tokens(), &headers(&format!("Bearer {token}")));
    caller.ok().map(|caller| caller.user_id)
}

#[test]
fn a_minted_token_is_taken_until_it_expires() {
    let user = UserId::new(42).unwrap();
    let token = mint(&secret(), user, Duration::from_secs(60)).unwrap();
    assert_eq!(authenticate(&token), Some(user));
    let other = mint(
        &Secret::new("another secret"),
        user,
        Duration::from_secs(60),
    )
    .unwrap();
    assert_eq!(authenticate(&other), None);
}

#[test]
fn while_the_secret_changes_tokens_of_both_are_good_and_new_ones_name_their_key() {
    let (old, new) = (Secret::new("the old one"), Secret::new("the new one"));
    let of = |secret, previous| Tokens::new(secret, previous, LIFE, Revoked::default());
    let (before, between, after) = (of(&old, None), of(&new, Some(&old)), of(&new, None));
    let user = UserId::new(42).unwrap();
    let issued = [&before, &between].map(|tokens| tokens.sign_in(user).unwrap().token);
    let takes = |tokens: &Tokens| {
        let caller = |token: &String| caller_in(tokens, &headers(&format!("Bearer {token}")));
        issued.each_ref().map(|token| caller(token).is_ok())
    };
    assert_eq!(takes(&before), [true, false]);
    assert_eq!(takes(&between), [true, true]);
    assert_eq!(takes(&after), [false, true]);
    let ids = issued.map(|token| {
        let header = token.split('.').next().unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        header["kid"].as_str().unwrap().to_owned()
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_token_with_one_wrong_claim_is_refused() {
    let good = good_claims();
    assert!(authenticate(&signed(SECRET, &good)).is_some());
    for (claim, wrong) in [
        ("exp", json!(1_000)),
        ("exp", Value::Null),
        ("iss", json!("somebody")),
        ("aud", json!("another-service")),
        ("aud", json!([])),
        ("sub", json!("root")),
        ("sub", json!("-1")),
        ("sub", json!(42)),
        ("nbf", json!(3_999_999_999_u64)),
    ] {
        let mut claims = good.clone();
        claims[claim] = wrong.clone();
        let token = signed(SECRET, &claims);
        assert_eq!(authenticate(&token), None, "{claim} = {wrong}");
    }
    for claim in ["sub", "exp", "iss", "aud"] {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(claim);
        let token = signed(SECRET, &claims);
        assert_eq!(authenticate(&token), None, "without {claim}");
    }
}

#[test]
fn the_audience_may_be_a_list_and_more_claims_are_allowed() {
    let mut claims = good_claims();
    claims["aud"] = json!(["shop", "seckill"]);
    claims["role"] = json!("buyer");
    assert!(authenticate(&signed(SECRET, &claims)).is_some());
}

#[test]
fn the_token_does_not_choose_the_algorithm() {
    let good = good_claims();
    let others = [
        signed_by::<Hmac<Sha384>>("HS384", &good),
        signed_by::<Hmac<Sha512>>("HS512", &good),
    ];
    for other in others {
        assert_eq!(authenticate(&other), None, "{other}");
    }
    // {"alg":"none","typ":"JWT"} and the same claims, with no signature.
    let payload = signed(SECRET, &good);
    let payload = payload.split('.').nth(1).unwrap();
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    assert_eq!(authenticate(&unsigned), None);
}

#[test]
fn only_a_bearer_token_is_read() {
    let token = signed(SECRET, &good_claims());
    let tokens = tokens();
    assert!(caller_in(&tokens, &headers(&format!("bearer {token}"))).is_ok());
    assert!(caller_in(&tokens, &headers(&format!("Basic {token}"))).is_err());
    assert!(caller_in(&tokens, &headers(&token)).is_err());
    assert!(caller_in(&tokens, &HeaderMap::new()).is_err());
}

fn caller_of(token: &str) -> Caller {
    caller_in(&tokens(), &headers(&format!("Bearer {token}"))).unwrap()
}

/// As if `seconds` had gone by since the token was issued.
fn aged(caller: &Caller, seconds: u64) -> Caller {
    let (issued, expires) = caller.issued_and_expires;
    Caller {
        issued_and_expires: (issued - seconds, expires - seconds),
        ..caller.clone()
    }
}

#[test]
fn a_chain_of_renewals_keeps_its_session_and_ends_after_ten() {
    let user = UserId::new(7).unwrap();
    let first = caller_of(&tokens().sign_in(user).unwrap().token);
    assert_eq!(first.renewal, Some(Renewal::SIGNED_IN));
    let mut caller = first.clone();
    for count in 1..=RENEWALS_MAX {
        let renewed = tokens().renewed(&aged(&caller, 600), unix_seconds());
        caller = caller_of(&renewed.unwrap().unwrap());
        assert_eq!(caller.renewal.map(|renewal| renewal.count), Some(count));
        assert_eq!(
            (caller.user_id, caller.session_id),
            (user, first.session_id)
        );
    }
    let renewed = tokens().renewed(&aged(&caller, 999), unix_seconds());
    assert_eq!(renewed.unwrap(), None);
}

#[test]
fn a_token_of_another_issuer_is_good_and_never_renewed() {
    let token = mint(&secret(), UserId::new(7).unwrap(), LIFE).unwrap();
    let caller = caller_of(&token);
    assert_eq!(
        tokens()
            .renewed(&aged(&caller, 999), unix_seconds())
            .unwrap(),
        None
    );
    assert_eq!(caller_of(&token).session_id, caller.session_id);
    let another = mint(&secret(), UserId::new(8).unwrap(), LIFE).unwrap();
    assert_ne!(caller_of(&another).session_id, caller.session_id);
}

#[test]
fn the_renewed_token_is_left_for_the_answer() {
    let tokens = tokens();
    let request = |token: &str| {
        let request =
            TestRequest::default().insert_header((AUTHORIZATION, format!("Bearer {token}")));
        let request = request.to_http_request();
        tokens
            .authenticate(&request)
            .now_or_never()
            .unwrap()
            .unwrap();
        let renewed = request.extensions().get::<RenewedToken>().cloned();
        renewed.map(|RenewedToken(token)| token)
    };
    let first = tokens.sign_in(UserId::new(7).unwrap()).unwrap().token;
    let second = request(&first).unwrap();
    assert_eq!(request(&second), None, "3/4 of its life are not gone");
}

#[test]
fn a_signed_out_session_is_refused_with_all_its_tokens_and_no_other_is() {
    let tokens = tokens();
    let bearer = |token: &str| headers(&format!("Bearer {token}"));
    let user = UserId::new(7).unwrap();
    let (first, other) = (
        tokens.sign_in(user).unwrap().token,
        tokens.sign_in(user).unwrap().token,
    );
    let caller = caller_in(&tokens, &bearer(&first)).unwrap();
    let second = tokens.renewed(&caller, unix_seconds()).unwrap().unwrap();
    let until = tokens.revoke(&caller);
    assert!(until > timestamp(unix_seconds() + LIFE.as_secs()));
    assert!(caller_in(&tokens, &bearer(&first)).is_err());
    assert!(caller_in(&tokens, &bearer(&second)).is_err());
    assert!(caller_in(&tokens, &bearer(&other)).is_ok());
}

#[test]
fn another_issuers_session_may_have_any_name() {
    let session = |sid: Value| {
        let mut claims = good_claims();
        claims["sid"] = sid;
        caller_of(&signed(SECRET, &claims)).session_id
    };
    assert_eq!(session(json!("mine")), session(json!("mine")));
    assert_ne!(session(json!("mine")), session(json!("yours")));
    let id = Uuid::new_v4();
    assert_eq!(session(json!(id.to_string())), id);
}
