//! Two deployments on one Redis.

use seckill_domain::{Epoch, Offset};
use seckill_stock::{Attempt, ClaimReply, LogIdentity, ReserveReply, Stock};

use crate::harness::{Server, granted, load, nonce, options, request, sale, units, voucher};
use crate::load::assert_not_served;

/// A handle of a deployment with this prefix, on the log of this Kafka cluster.
fn deployment(server: &Server, prefix: &str, cluster: &str) -> Stock {
    let log = LogIdentity::default();
    log.learn(cluster);
    Stock::new(options(&server.redis).of_deployment(prefix, log)).expect("the URL is good")
}

#[tokio::test]
async fn each_has_its_own_sales_under_its_prefix() {
    let server = Server::start();
    let (one, two) = (
        deployment(&server, "one.", "A"),
        deployment(&server, "two.", "B"),
    );
    load(&one, &sale(10), Offset::new(1)).await;
    assert_not_served(&two, None).await;
    load(&two, &sale(3), Offset::new(1)).await;
    granted(&one, &request(1, 11)).await;
    granted(&two, &request(1, 11)).await;
    assert_eq!((units(&one).await.0, units(&two).await.0), (9, 2));
    let mut raw = server.raw().await;
    let mut all = redis::cmd("KEYS");
    let keys: Vec<String> = all.arg("*").query_async(&mut raw).await.unwrap();
    let foreign = keys
        .iter()
        .find(|key| !key.starts_with("one.seckill:{7}:") && !key.starts_with("two.seckill:{7}:"));
    assert_eq!(foreign, None);
}

/// Neither was given a prefix. The second one is refused: it neither sells nor loads the first one's sale.
#[tokio::test]
async fn a_sale_of_another_log_is_refused_and_stays_as_it_is() {
    let server = Server::start();
    let (one, two) = (deployment(&server, "", "A"), deployment(&server, "", "B"));
    load(&one, &sale(10), Offset::new(1)).await;
    granted(&one, &request(1, 11)).await;
    assert_not_served(&two, Some(Epoch::FIRST)).await;
    let connection = two.connection_for(voucher()).await.unwrap();
    let claim = connection.claim(voucher(), nonce(5), Epoch::new(9)).await;
    assert_eq!(claim.unwrap(), ClaimReply::OtherLog);
    granted(&one, &request(2, 12)).await;
    assert_eq!(units(&one).await, (8, 2, 2));
}

/// What an earlier version loaded says nothing of its log, and is served.
#[tokio::test]
async fn a_sale_that_names_no_log_is_served() {
    let server = Server::with_sale().await;
    let later = deployment(&server, "", "A");
    granted(&later, &request(1, 11)).await;
    let reply = server
        .stock
        .reserve(voucher(), &[], &[], Attempt::First)
        .await
        .unwrap();
    assert!(matches!(reply, ReserveReply::Decided { .. }));
}
