//! A book beside the view: which user an identity provider's `sub` is.

use seckill_domain::UserId;
use seckill_identity::{Subject, subject_number};

use crate::books::users::user_id;
use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;

impl Orderbook {
    /// The user whom an identity provider calls so, made at the first call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_of_subject(&self, subject: &Subject) -> Result<UserId, OrderbookError> {
        if let Some(known) = self.known_subject(subject).await? {
            return Ok(known);
        }
        let key = self.user_id_key().await?;
        let mut attempt = 0;
        loop {
            let id = user_id(subject_number(&key, subject, attempt))?;
            if self.insert_subject(id, subject).await? {
                return Ok(id);
            }
            // Somebody else made it in between, or the number is another's.
            if let Some(known) = self.known_subject(subject).await? {
                return Ok(known);
            }
            attempt += 1;
        }
    }

    async fn insert_subject(&self, id: UserId, subject: &Subject) -> Result<bool, OrderbookError> {
        let made = sqlx::query(
            "INSERT INTO provider_users (user_id, issuer, sub) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id.get())
        .bind(subject.issuer())
        .bind(subject.sub())
        .execute(&self.pool)
        .await?;
        Ok(made.rows_affected() == 1)
    }

    async fn known_subject(&self, subject: &Subject) -> Result<Option<UserId>, OrderbookError> {
        let id: Option<i64> =
            sqlx::query_scalar("SELECT user_id FROM provider_users WHERE issuer = $1 AND sub = $2")
                .bind(subject.issuer())
                .bind(subject.sub())
                .fetch_optional(&self.pool)
                .await?;
        id.map(user_id).transpose()
    }
}
