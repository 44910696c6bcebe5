//! Who is let in: limits and risk rules, before an order costs anything.

use reqwest::Response;
use seckill_orderbook::{AuditEntry, RiskRule};
use seckill_testkit::service::Service;
use serde_json::Value;

use crate::harness::{Rig, eventually};

const AUDIT: AuditEntry<'static> = AuditEntry {
    origin: None,
    actor: "kim",
    command: "risk",
    reason: "a test",
    affected: 1,
    voucher_id: None,
    trace: None,
};

/// As a proxy passes it on, from a client at this address.
async fn order(
    rig: &Rig,
    service: &Service,
    path: &str,
    user: Option<i64>,
    from: &str,
) -> Response {
    let request = rig.http.post(format!("{}{path}", service.url()));
    let request = request.header("x-forwarded-for", from);
    let request = match user {
        Some(user) => request.bearer_auth(rig.token(user)),
        None => request,
    };
    request.send().await.unwrap()
}

fn behind_a_proxy(rig: &Rig, settings: &[(&str, &str)]) -> Service {
    let mut spec = rig.spec();
    for (name, value) in [("TRUSTED_PROXIES", "127.0.0.0/8")].iter().chain(settings) {
        spec.env.insert((*name).to_owned(), (*value).to_owned());
    }
    Service::start(spec).unwrap()
}

fn text<'a>(response: &'a Response, header: &str) -> &'a str {
    let value = response.headers().get(header);
    value.map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_refused_before_its_token_is_looked_at() {
    let rig = Rig::start().await;
    let service = behind_a_proxy(&rig, &[("RATE_LIMIT_ADDRESS_PER_SECOND", "3")]);
    let path = "/api/v1/vouchers/1/orders";
    let mut refused = None;
    eventually("a refusal of the address", async || {
        let answer = order(&rig, &service, path, None, "203.0.113.5").await;
        if answer.status() != 401 {
            refused = Some(answer);
        }
        refused.is_some()
    })
    .await;
    let refused = refused.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(text(&refused, "retry-after"), "1");
    assert_eq!(text(&refused, "ratelimit"), "\"address\";r=0;t=1");
    assert_eq!(text(&refused, "ratelimit-policy"), "\"address\";q=3;w=1");
    let other = order(&rig, &service, path, None, "203.0.113.6").await;
    assert_eq!(other.status(), 401);
    assert_eq!(text(&other, "ratelimit"), "\"address\";r=2;t=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_order_says_what_is_left_of_every_limit() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let service = behind_a_proxy(&rig, &[("RATE_LIMIT_VOUCHER_PER_SECOND", "50")]);
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let accepted = order(&rig, &service, &path, Some(1), "203.0.113.5").await;
    assert_eq!(accepted.status(), 202);
    let left = "\"user\";r=4;t=1, \"voucher\";r=49;t=1";
    assert_eq!(text(&accepted, "ratelimit"), left);
    let policies = "\"user\";q=5;w=1, \"voucher\";q=50;w=1";
    assert_eq!(text(&accepted, "ratelimit-policy"), policies);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_who_clicks_more_than_five_times_a_second_is_refused_by_default() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let service = Service::start(rig.spec()).unwrap();
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let mut refused = None;
    eventually("a refusal of the buyer", async || {
        let answer = order(&rig, &service, &path, Some(1), "203.0.113.5").await;
        if answer.status() == 429 {
            refused = Some(answer);
        }
        refused.is_some()
    })
    .await;
    let refused = refused.unwrap();
    assert_eq!(text(&refused, "ratelimit"), "\"user\";r=0;t=1");
    assert_eq!(text(&refused, "ratelimit-policy"), "\"user\";q=5;w=1");
    assert_eq!(text(&refused, "retry-after"), "1");
    let other = order(&rig, &service, &path, Some(2), "203.0.113.5").await;
    assert_eq!(other.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_denied_takes_nothing_of_what_a_sale_may_have() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let rule = RiskRule {
        rule: "address-blocked".to_owned(),
        subject: "198.51.100.0/24".to_owned(),
        value: 0,
    };
    rig.orderbook().put_risk_rule(&rule, AUDIT).await.unwrap();
    let settings = [
        ("RATE_LIMIT_VOUCHER_PER_SECOND", "1"),
        ("RATE_LIMIT_GLOBAL_PER_SECOND", "1"),
    ];
    let service = behind_a_proxy(&rig, &settings);
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    for user in 1..50 {
        let denied = order(&rig, &service, &path, Some(user), "198.51.100.9").await;
        assert_eq!(denied.status(), 403, "{user}");
    }
    // Each of them would have taken the one of its second.
    let other = order(&rig, &service, &path, Some(99), "203.0.113.5").await;
    assert_eq!(other.status(), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_holds_within_seconds_on_every_instance_and_no_longer_than_it_is_there() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(100).await;
    let settings = [("RATE_LIMIT_USER_PER_SECOND", "0")];
    let services = [(); 2].map(|()| behind_a_proxy(&rig, &settings));
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let rules = [
        ("user-blocked", "7", (7, "203.0.113.5"), (8, "203.0.113.5")),
        (
            "address-blocked",
            "198.51.100.0/24",
            (8, "198.51.100.9"),
            (8, "203.0.113.9"),
        ),
    ];
    for (name, subject, denied, allowed) in rules {
        let rule = RiskRule {
            rule: name.to_owned(),
            subject: subject.to_owned(),
            value: 0,
        };
        rig.orderbook().put_risk_rule(&rule, AUDIT).await.unwrap();
        for service in &services {
            let ask = async |(user, from)| {
                let answer = order(&rig, service, &path, Some(user), from).await;
                let body: Value = answer.json().await.unwrap();
                body["rule"].as_str().map(str::to_owned)
            };
            eventually("the rule to hold", async || {
                ask(denied).await.as_deref() == Some(name)
            })
            .await;
            assert_eq!(ask(allowed).await, None);
        }
        rig.orderbook()
            .remove_risk_rule(&rule, AUDIT)
            .await
            .unwrap();
        for service in &services {
            eventually("the rule to be gone", async || {
                let (user, from) = denied;
                let answer = order(&rig, service, &path, Some(user), from).await;
                answer.status() != 403
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_address_is_blocked_however_the_proxy_writes_it() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(100).await;
    let settings = [("RATE_LIMIT_USER_PER_SECOND", "0")];
    let service = behind_a_proxy(&rig, &settings);
    let standard = [settings[0], ("TRUSTED_PROXIES_HEADER", "forwarded")];
    let standard = behind_a_proxy(&rig, &standard);
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let [v4, v6] = ["203.0.113.9", "2001:db8::/64"].map(|subject| RiskRule {
        rule: "address-blocked".to_owned(),
        subject: subject.to_owned(),
        value: 0,
    });
    for rule in [&v4, &v6] {
        rig.orderbook().put_risk_rule(rule, AUDIT).await.unwrap();
    }
    let denied = async |service: &Service, header: &str, from: &[u8]| {
        let request = rig.http.post(format!("{}{path}", service.url()));
        let request = request.bearer_auth(rig.token(8)).header(header, from);
        request.send().await.unwrap().status() == 403
    };
    let plain = "x-forwarded-for";
    // The last of them: who has read that one has read the other.
    eventually("the rules to hold", async || {
        denied(&service, plain, b"2001:db8::1").await
            && denied(&standard, "forwarded", b"for=\"[2001:db8::1]\"").await
    })
    .await;
    for from in [
        &b"203.0.113.9:51234"[..],
        b"\"[2001:db8::1]:443\"",
        b"198.51.100.1, 2001:db8::1",
        b"\xff, 203.0.113.9",
        b"caf\xc3\xa9, 203.0.113.9:51234, 127.0.0.2",
        b"203.0.113.9, unknown",
    ] {
        assert!(
            denied(&service, plain, from).await,
            "{}",
            from.escape_ascii()
        );
    }
    for from in [
        &b"for=\"203.0.113.9:51234\";proto=https"[..],
        b"for=198.51.100.1, For=\"[2001:db8::1]:443\"",
        b"for=\", for=203.0.113.9;host=\"a, for=1.1.1.1\"",
    ] {
        assert!(
            denied(&standard, "forwarded", from).await,
            "{}",
            from.escape_ascii()
        );
    }
    assert!(!denied(&service, plain, b"203.0.113.9, 198.51.100.1:80").await);
    assert!(!denied(&service, plain, b"unknown").await, "nor the proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowded_address_takes_no_more_users_but_keeps_those_it_has() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(100).await;
    let service = behind_a_proxy(&rig, &[("RATE_LIMIT_USER_PER_SECOND", "0")]);
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let rule = RiskRule {
        rule: "crowded-address".to_owned(),
        subject: "*".to_owned(),
        value: 2,
    };
    rig.orderbook().put_risk_rule(&rule, AUDIT).await.unwrap();
    let mut users = 0;
    eventually("a refusal of the address", async || {
        users += 1;
        let answer = order(&rig, &service, &path, Some(users), "203.0.113.5").await;
        answer.status() == 403
    })
    .await;
    let elsewhere = order(&rig, &service, &path, Some(users), "203.0.113.6").await;
    assert_eq!(elsewhere.status(), 202);
    let known = order(&rig, &service, &path, Some(users - 1), "203.0.113.5").await;
    assert_eq!(known.status(), 409, "has an order, and is not denied");
}

/// Which rule denies an order at this ingress, with this token if any.
async fn denied(rig: &Rig, service: &Service, path: &str, token: Option<&str>) -> Option<String> {
    let request = rig.http.post(format!("{}{path}/orders", service.url()));
    let request = request.bearer_auth(rig.token(7));
    let request = match token {
        Some(token) => request.header("x-sale-token", token),
        None => request,
    };
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    body["rule"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_past_the_page_or_too_soon_after_it_is_denied_on_every_instance() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(100).await;
    let settings = [("RATE_LIMIT_USER_PER_SECOND", "0")];
    let services = [(); 2].map(|()| behind_a_proxy(&rig, &settings));
    let path = format!("/api/v1/vouchers/{voucher}");
    // Of a third instance.
    let page = rig.get(&format!("{path}/sale-token"), Some(7)).await;
    let token = page.1["sale_token"].as_str().unwrap();
    let put = async |name: &str, value| {
        let (rule, subject) = (name.to_owned(), "*".to_owned());
        let rule = RiskRule {
            rule,
            subject,
            value,
        };
        rig.orderbook().put_risk_rule(&rule, AUDIT).await.unwrap();
    };

    put("page-not-seen", 0).await;
    for service in &services {
        eventually("the rule to hold", async || {
            denied(&rig, service, &path, None).await.as_deref() == Some("page-not-seen")
        })
        .await;
        let forged = denied(&rig, service, &path, Some("x")).await;
        assert_eq!(forged.as_deref(), Some("page-not-seen"));
        assert_eq!(denied(&rig, service, &path, Some(token)).await, None);
    }
    put("impossible-timing", 60_000).await;
    for service in &services {
        eventually("the rule to hold", async || {
            let rule = denied(&rig, service, &path, Some(token)).await;
            rule.as_deref() == Some("impossible-timing")
        })
        .await;
        let metrics = format!("{}/metrics", service.admin_url());
        let metrics = rig.http.get(metrics).send().await.unwrap();
        let metrics = metrics.text().await.unwrap();
        for rule in ["page-not-seen", "impossible-timing"] {
            let counter = format!("decision=\"deny\",rule=\"{rule}\"");
            assert!(metrics.contains(&counter), "{metrics}");
        }
    }
    put("impossible-timing", 1).await;
    for service in &services {
        eventually("a page that was seen long enough", async || {
            denied(&rig, service, &path, Some(token)).await.is_none()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_none_is_not_taken() {
    let rig = Rig::start().await;
    for (name, subject, value) in [
        ("user-blocked", "somebody", 0),
        ("address-blocked", "here", 0),
        ("crowded-address", "*", 0),
        ("page-not-seen", "7", 0),
        ("impossible-timing", "*", 60_001),
        ("moon-phase", "*", 1),
    ] {
        let rule = RiskRule {
            rule: name.to_owned(),
            subject: subject.to_owned(),
            value,
        };
        let put = rig.orderbook().put_risk_rule(&rule, AUDIT).await;
        assert!(put.is_err(), "{rule:?}");
    }
    assert_eq!(rig.orderbook().risk_rules().await.unwrap(), []);
}
