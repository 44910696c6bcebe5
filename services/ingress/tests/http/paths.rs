//! One path, one meaning: what the gate, a proxy in front and the router take from a path is the same.

use actix_web::http::Method;
use seckill_domain::VoucherId;
use seckill_ingress::gate::admission::Class;

use crate::harness::Rig;
use crate::operations::{Operation, admin, ask, public};

/// Other texts that a router, a proxy or a person may take for the same path.
fn spellings(path: &str) -> Vec<String> {
    let mut others = Vec::new();
    for (place, byte) in path.bytes().enumerate().skip(1) {
        let (before, after) = (&path[..place], &path[place + 1..]);
        others.push(format!("{before}%{byte:02x}{after}"));
        others.push(format!("{before}%{byte:02X}{after}"));
        if byte == b'/' {
            for more in ["//", "/./", "/x/../"] {
                others.push(format!("{before}{more}{after}"));
            }
        }
    }
    let escapes = path.bytes().skip(1).map(|byte| format!("%{byte:02x}"));
    others.push(format!("/{}", escapes.collect::<String>()));
    for end in ["/", "//", "%2f", "%00"] {
        others.push(format!("{path}{end}"));
    }
    for begin in ["/", "/.", "/x/..", "/%2e"] {
        others.push(format!("{begin}{path}"));
    }
    others.push(path.to_uppercase());
    others.retain(|other| other != path);
    others
}

/// Which paths are not answered as they should be: the document's own by their operations, all other
/// spellings of them by a 404 or by where the path is that was meant.
fn wrong(url: &str, operations: &[Operation]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Operation { method, path, .. } in operations {
        for asked in std::iter::once(path.clone()).chain(spellings(path)) {
            let answer = ask(url, method, &asked, "");
            let moved = |known: &Operation| answer.header("location") == Some(&known.path);
            let leads_nowhere = match answer.status {
                404 => true,
                308 => operations.iter().any(moved),
                _ => false,
            };
            if leads_nowhere == (asked == *path) {
                wrong.push(format!("{method} {asked}: {}", answer.status));
            }
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_reached_under_one_spelling_of_its_path_only() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let (public, admin) = (public(voucher), admin(voucher));
    assert!(public.len() > 15 && admin.len() > 12);
    let (url, admin_url) = (rig.service.url(), rig.service.admin_url());
    let found = tokio::task::spawn_blocking(move || {
        [wrong(&url, &public), wrong(&admin_url, &admin)].concat()
    });
    let found = found.await.unwrap();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_gate_knows_every_operation() {
    let voucher = VoucherId::new(7).unwrap();
    for Operation {
        id, method, path, ..
    } in public(voucher)
    {
        let expected = match id.as_str() {
            "placeOrder" => Class::Order(voucher),
            "cancelOrder" => Class::Payment,
            "recordPayment" | "sendSignInCode" | "signIn" => Class::Body,
            _ if path.starts_with("/api/") => Class::Read,
            _ => Class::Page,
        };
        let method: Method = method.parse().unwrap();
        assert_eq!(Class::of(&method, &path), expected, "{id}");
    }
}
