//! What the consistency check finds, written for people to read.

use crate::harness::Stand;
use seckill_domain::{Timestamp, VoucherId};
use seckill_orderbook::Finding;

fn finding(voucher: i64, partition: i32, subject: &str) -> Finding {
    Finding {
        voucher_id: VoucherId::new(voucher).unwrap(),
        partition,
        invariant: "missing-hold".to_owned(),
        subject: subject.to_owned(),
        detail: format!("expected {subject}, found nothing"),
    }
}

async fn subjects(stand: &Stand) -> Vec<(Timestamp, String)> {
    let findings = stand.book.findings(50).await.unwrap().into_iter();
    findings
        .map(|(since, found)| (since, found.subject))
        .collect()
}

#[tokio::test]
async fn a_projector_replaces_what_it_found_and_leaves_what_others_found() {
    let stand = Stand::new().await;
    let write = async |partitions: &[i32], findings: &[Finding]| {
        stand
            .book
            .replace_findings(partitions, findings)
            .await
            .unwrap();
    };
    write(&[0], &[finding(7, 0, "first")]).await;
    write(&[1], &[finding(8, 1, "another's")]).await;
    let before = subjects(&stand).await;
    write(&[0], &[finding(7, 0, "first"), finding(7, 0, "second")]).await;
    let after = subjects(&stand).await;
    assert_eq!(after[..2], before, "what was known keeps its time");
    assert_eq!(after[2].1, "second");
    write(&[0], &[]).await;
    assert_eq!(subjects(&stand).await, before[1..]);
    let one = stand.book.findings(1).await.unwrap();
    assert_eq!(one[0].1, finding(8, 1, "another's"));
}

#[tokio::test]
async fn a_text_of_a_store_that_postgresql_cannot_have_is_written_as_far_as_it_can() {
    let stand = Stand::new().await;
    let strange = format!("a\0b{}", "é".repeat(1_000));
    let findings = [finding(7, 0, &strange), finding(7, 0, &strange)];
    stand.book.replace_findings(&[0], &findings).await.unwrap();
    let written = subjects(&stand).await;
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(written[0].1.starts_with("a\u{fffd}bé"), "{written:?}");
    assert_eq!(written[0].1.chars().count(), 300);
}
