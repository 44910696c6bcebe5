//! A sale that needs sale tokens: no order without a token, and one order for each token, at any ingress and after any
//! death of a process.

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use reqwest::Method;
use seckill_domain::VoucherId;
use seckill_tests::{Answer, Client, SaleTerms, World, arm, await_death, check_consistency};

const ASKING: SaleTerms = SaleTerms {
    requires_sale_token: true,
    ..SaleTerms::of(20)
};

/// Sends fifty orders with one token and different keys to two ingresses at the same time.
async fn fifty_orders(
    clients: &[Client; 2],
    voucher: VoucherId,
    user: u64,
    token: &str,
    round: &str,
) -> Result<Vec<Answer>> {
    let keys: Vec<String> = (0..50).map(|n| format!("{round}-{n}")).collect();
    let orders = keys.iter().zip(clients.iter().cycle());
    let orders = orders.map(|(key, client)| client.order_from_page(voucher, user, key, token));
    try_join_all(orders).await
}

fn accepted(answers: &[Answer]) -> Vec<usize> {
    let accepted = |n: &usize| answers[*n].status == 202;
    (0..answers.len()).filter(accepted).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_one_order_at_two_ingresses() -> Result<()> {
    let world = World::start()?;
    let second = world.stack.start_ingress(&[])?;
    let clients = [world.client.clone(), world.client_of(&second)];
    let voucher = world.sale(ASKING).await?;
    // The token of one ingress is valid at both.
    let token = clients[1].sale_token(voucher, 7).await?;

    let first = fifty_orders(&clients, voucher, 7, &token, "first").await?;
    let [winner] = accepted(&first)[..] else {
        panic!("not one: {first:?}");
    };
    let order_id = first[winner].order_id().context("no order id")?;
    for client in &clients {
        let key = format!("first-{winner}");
        let again = client.order_from_page(voucher, 7, &key, &token).await?;
        assert_eq!((again.status, again.order_id()), (202, Some(order_id)));
    }

    // From now on only the used token prevents another order of this buyer.
    world.until_status(7, order_id, "unpaid").await?;
    world.client.cancel(7, order_id).await?;
    world.until_status(7, order_id, "cancelled").await?;
    world.quiet(voucher).await?;
    let used = fifty_orders(&clients, voucher, 7, &token, "second").await?;
    for answer in &used {
        assert_eq!((answer.status, answer.problem()), (409, "sale-token-used"));
    }
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["redis_available"], 20, "{ledger}");

    let new = clients[0].sale_token(voucher, 7).await?;
    let third = fifty_orders(&clients, voucher, 7, &new, "third").await?;
    assert_eq!(accepted(&third).len(), 1, "{third:?}");
    world.quiet(voucher).await?;
    let answers = [first, used, third].concat();
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.available), (1, 19));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_of_ones_own_nothing_is_taken() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(ASKING).await?;
    let other_sale = world.sale(ASKING).await?;
    let client = &world.client;
    let path = format!("/api/v1/vouchers/{voucher}");
    let shown = client.send(client.request(Method::GET, &path)).await?;
    assert_eq!(shown.body["requires_sale_token"], true, "{shown:?}");
    let no_one = client.request(Method::GET, &format!("{path}/sale-token"));
    assert_eq!(client.send(no_one).await?.status, 401);

    let (others, elsewhere) = (
        client.sale_token(voucher, 8).await?,
        client.sale_token(other_sale, 7).await?,
    );
    let mut answers = vec![("missing", client.order(voucher, 7, None, 1).await?)];
    for token in [&others, &elsewhere, "x", &client.token(7)?] {
        let answer = client.order_from_page(voucher, 7, "a-key", token).await?;
        answers.push(("invalid", answer));
    }
    for (token, answer) in &answers {
        assert_eq!(
            (answer.status, answer.problem()),
            (403, "sale-token-required"),
            "{answer:?}"
        );
        assert_eq!(answer.body["token"], *token, "{answer:?}");
        assert_eq!(answer.body["token_url"], format!("{path}/sale-token"));
    }
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["redis_available"], &ledger["held"]),
        (&20.into(), &0.into()),
        "{ledger}"
    );
    let answers: Vec<_> = answers.into_iter().map(|(_, answer)| answer).collect();
    check_consistency(&world, voucher, &answers).await?;

    let token = client.sale_token(voucher, 7).await?;
    let good = client.order_from_page(voucher, 7, "a-key", &token).await?;
    assert_eq!(good.status, 202, "{good:?}");
    Ok(())
}

/// The token is used and the units are taken in one step. A repeated request with the same key gets the order of that
/// step.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_whose_ingress_died_still_gets_its_order() -> Result<()> {
    let mut world = World::start()?;
    let second = world.stack.start_ingress(&[])?;
    let survivor = world.client_of(&second);
    let voucher = world.sale(ASKING).await?;
    let token = world.client.sale_token(voucher, 7).await?;
    arm(&mut world.ingress, "ingress.after-lua", "kill")?;
    let order = world.client.order_from_page(voucher, 7, "a-key", &token);
    assert!(order.await.is_err(), "nobody was told anything");
    await_death(&mut world.ingress, "ingress.after-lua")?;

    let again = survivor.order_from_page(voucher, 7, "a-key", &token);
    let again = again.await?;
    assert_eq!(again.status, 202, "{again:?}");
    let other_key = survivor.order_from_page(voucher, 7, "another", &token);
    assert_eq!(other_key.await?.problem(), "already-ordered");
    let order_id = again.order_id().context("no order id")?.to_owned();
    world.client = survivor;
    world.until_status(7, &order_id, "unpaid").await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &[again]).await?;
    assert_eq!((found.unpaid, found.available), (1, 19));
    Ok(())
}
