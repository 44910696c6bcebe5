//! Users whom an identity provider names.

use std::collections::HashSet;

use crate::harness::Stand;
use seckill_domain::UserId;
use seckill_identity::{Subject, is_subject_number};

const ISSUER: &str = "https://login.example/realms/shop";

fn subject(sub: &str) -> Subject {
    Subject::new(ISSUER, sub).unwrap()
}

async fn user(stand: &Stand, sub: &str) -> UserId {
    stand.book.user_of_subject(&subject(sub)).await.unwrap()
}

async fn change(stand: &Stand, sql: &str) {
    sqlx::query(sql).execute(&stand.sql).await.unwrap();
}

#[tokio::test]
async fn a_subject_is_one_user_also_when_it_comes_the_first_time_twice_at_once() {
    let stand = Stand::new().await;
    let first_time = (0..64).map(|n| {
        let book = stand.book.clone();
        let subject = subject(if n % 2 == 0 { "kim" } else { "Kim" });
        tokio::spawn(async move { (n % 2, book.user_of_subject(&subject).await.unwrap()) })
    });
    let mut users = HashSet::new();
    for attempt in first_time.collect::<Vec<_>>() {
        users.insert(attempt.await.unwrap());
    }
    assert_eq!(users.len(), 2, "one for each spelling: {users:?}");
    let ids: HashSet<_> = users.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), 2);
    assert!(ids.iter().all(|id| is_subject_number(id.get())));
    let elsewhere = Subject::new("https://other.example", "kim").unwrap();
    let elsewhere = stand.book.user_of_subject(&elsewhere).await.unwrap();
    assert!(!ids.contains(&elsewhere), "another issuer's kim");
}

#[tokio::test]
async fn a_subject_whose_row_was_lost_gets_the_same_id_again_and_nobody_else_does() {
    let stand = Stand::new().await;
    let kim = user(&stand, "kim").await;
    change(&stand, "DELETE FROM provider_users").await;
    assert_ne!(user(&stand, "lee").await, kim);
    assert_eq!(user(&stand, "kim").await, kim);
}

#[tokio::test]
async fn a_number_that_another_subject_has_is_passed_over() {
    let stand = Stand::new().await;
    let first = user(&stand, "kim").await;
    change(&stand, "UPDATE provider_users SET sub = 'eve'").await;
    let kim = user(&stand, "kim").await;
    assert_ne!(kim, first);
    assert!(is_subject_number(kim.get()));
    for _ in 0..2 {
        assert_eq!(user(&stand, "kim").await, kim);
        assert_eq!(user(&stand, "eve").await, first);
    }
}
