//! A master that was cut off: it answers reads, and refuses writes.

use seckill_domain::Epoch;
use seckill_stock::{ClaimReply, LoadReply, Probe};

use crate::harness::{PROMISE, Server, nonce, voucher};

#[tokio::test]
async fn a_claim_is_renewed_only_while_it_is_ones_own_and_the_server_takes_writes() {
    let server = Server::with_sale().await;
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    for claim in [1, 2] {
        let claimed = connection
            .claim(voucher(), nonce(claim), Epoch::new(2))
            .await;
        let promised_under = Some(PROMISE);
        assert_eq!(claimed.unwrap(), ClaimReply::Claimed { promised_under });
        let renewed = connection.renew(voucher(), nonce(claim)).await;
        assert_eq!(renewed.unwrap(), LoadReply::Loaded);
    }
    let renewed = connection.renew(voucher(), nonce(1)).await;
    assert_eq!(renewed.unwrap(), LoadReply::Lost);
    server.cut_off().await;
    assert!(connection.renew(voucher(), nonce(2)).await.is_err());
}

#[tokio::test]
async fn only_a_server_that_serves_the_sale_and_takes_writes_names_its_epoch() {
    let server = Server::with_sale().await;
    let Ok(Probe::Open(view)) = server.stock.probe(voucher()).await else {
        panic!("not served");
    };
    let epoch = server.stock.epoch_that_takes_writes(voucher()).await;
    assert_eq!(epoch.unwrap(), Some(view.epoch));
    server.cut_off().await;
    let probe = server.stock.probe(voucher()).await;
    assert!(matches!(probe, Ok(Probe::Open(_))), "{probe:?}");
    let refused = server.stock.epoch_that_takes_writes(voucher()).await;
    assert!(refused.is_err());
}
