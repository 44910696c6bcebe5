//! Users and their ended sessions.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Stand, user};
use seckill_domain::Timestamp;
use seckill_identity::{Address, USER_NUMBER_MIN};
use seckill_orderbook::RevokedSession;
use uuid::Uuid;

fn address(name: &str) -> Address {
    format!("{name}@example.com").parse().unwrap()
}

#[tokio::test]
async fn an_address_is_one_user_also_when_it_signs_in_twice_at_once() {
    let stand = Stand::new().await;
    let first_time = (0..16).map(|_| {
        let book = stand.book.clone();
        tokio::spawn(async move { book.user_of(&address("ada"), false).await.unwrap() })
    });
    let mut users = HashSet::new();
    for attempt in first_time.collect::<Vec<_>>() {
        users.insert(attempt.await.unwrap());
    }
    assert_eq!(users.len(), 1);
    users.insert(stand.book.user_of(&address("bob"), false).await.unwrap());
    assert_eq!(users.len(), 2);
    users.insert(stand.book.user_of(&address("ada"), false).await.unwrap());
    assert_eq!(users.len(), 2);
}

#[tokio::test]
async fn a_user_whose_row_was_lost_gets_the_same_id_again_and_nobody_else_does() {
    let stand = Stand::new().await;
    let ada = stand.book.user_of(&address("ada"), false).await.unwrap();
    assert!(ada.get() >= USER_NUMBER_MIN);
    sqlx::query("DELETE FROM users")
        .execute(&stand.sql)
        .await
        .unwrap();
    assert_ne!(
        stand.book.user_of(&address("bob"), false).await.unwrap(),
        ada
    );
    assert_eq!(
        stand.book.user_of(&address("ada"), false).await.unwrap(),
        ada
    );
}

#[tokio::test]
async fn a_number_that_another_address_has_is_passed_over() {
    let stand = Stand::new().await;
    let first = stand.book.user_of(&address("ada"), false).await.unwrap();
    sqlx::query("UPDATE users SET email = 'eve@example.com'")
        .execute(&stand.sql)
        .await
        .unwrap();
    let ada = stand.book.user_of(&address("ada"), false).await.unwrap();
    assert_ne!(ada, first);
    assert_eq!(
        stand.book.user_of(&address("ada"), false).await.unwrap(),
        ada
    );
}

#[tokio::test]
async fn aliases_of_a_mailbox_are_one_user_where_that_is_wanted_and_keep_the_ids_that_they_had() {
    let stand = Stand::new().await;
    let user = |name: &'static str, one: bool| {
        let book = stand.book.clone();
        async move { book.user_of(&address(name), one).await.unwrap() }
    };
    let (first, second) = (user("ada+1", false).await, user("ada+2", false).await);
    assert_ne!(first, second);
    // From now on: those that were users before are the same, and what is new is the first of them.
    assert_eq!(user("ada+1", true).await, first);
    assert_eq!(user("ada+2", true).await, second);
    for alias in ["ada+3", "ada"] {
        assert_eq!(user(alias, true).await, first, "{alias}");
    }
    let at_once = (0..16).map(|n| {
        let (book, alias) = (stand.book.clone(), address(&format!("bob+{n}")));
        tokio::spawn(async move { book.user_of(&alias, true).await.unwrap() })
    });
    let mut bobs = HashSet::new();
    for bob in at_once.collect::<Vec<_>>() {
        bobs.insert(bob.await.unwrap());
    }
    assert_eq!(bobs.len(), 1, "one buyer, however many aliases");
    // A mailbox whose row was lost gets its number again, by whatever alias.
    sqlx::query("DELETE FROM users")
        .execute(&stand.sql)
        .await
        .unwrap();
    assert!(bobs.contains(&user("bob+new", true).await));
    assert!(bobs.contains(&user("bob", true).await));
}

#[tokio::test]
async fn the_migration_and_the_code_agree_on_what_a_mailbox_is() {
    let stand = Stand::new().await;
    let emails = [
        "ada@example.com",
        "ada+1@example.com",
        "a.d.a@example.com",
        "a.d.a+x+y@gmail.com",
        "ada@googlemail.com",
        "+ada@example.com",
    ];
    for email in emails {
        let address: Address = email.parse().unwrap();
        stand.book.user_of(&address, false).await.unwrap();
    }
    let of_code = mailboxes(&stand).await;
    assert_eq!(of_code.iter().flatten().count(), 4, "{of_code:?}");
    sqlx::query("UPDATE users SET mailbox = NULL")
        .execute(&stand.sql)
        .await
        .unwrap();
    let migration = include_str!("../../../../migrations/0015_mailboxes.sql");
    let update = migration.split(';').nth(1).unwrap();
    sqlx::query(update).execute(&stand.sql).await.unwrap();
    assert_eq!(mailboxes(&stand).await, of_code);
}

async fn mailboxes(stand: &Stand) -> Vec<Option<String>> {
    let sql = "SELECT mailbox FROM users ORDER BY email";
    sqlx::query_scalar(sql).fetch_all(&stand.sql).await.unwrap()
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap() + seconds * 1_000_000)
}

#[tokio::test]
async fn an_ended_session_is_told_to_everybody_until_its_tokens_are_of_no_use() {
    let stand = Stand::new().await;
    let session = |expires_at| RevokedSession {
        session_id: Uuid::new_v4(),
        expires_at,
    };
    let (live, over) = (session(in_seconds(600)), session(in_seconds(-1)));
    for ended in [live, over, live] {
        stand.book.revoke_session(ended, user(7)).await.unwrap();
    }
    let first = stand.book.revoked_sessions(None).await.unwrap();
    assert_eq!(first.sessions, [live]);
    let second = session(in_seconds(600));
    stand.book.revoke_session(second, user(7)).await.unwrap();
    let next = stand.book.revoked_sessions(Some(first.as_of)).await;
    assert!(next.unwrap().sessions.contains(&second));
    assert_eq!(stand.book.forget_expired_sessions().await.unwrap(), 1);
    assert_eq!(stand.book.forget_expired_sessions().await.unwrap(), 0);
}
