//! A table beside the view: who signed in.

use std::net::IpAddr;

use seckill_domain::{TraceParent, UserId};
use seckill_identity::{Address, user_number};

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;

impl Orderbook {
    /// The user of an address, created at the first call. If a mailbox is one user, a new address belongs to the
    /// user of its mailbox; an address that already has a user keeps it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn user_of(
        &self,
        address: &Address,
        mailbox_is_one_user: bool,
    ) -> Result<UserId, OrderbookError> {
        let mailbox = address.mailbox();
        let shared = mailbox_is_one_user.then_some(&mailbox);
        if let Some(known) = self.known_user(address, shared).await? {
            return Ok(known);
        }
        let key = self.user_id_key().await?;
        let mut attempt = 0;
        loop {
            let id = user_id(user_number(&key, shared.unwrap_or(address), attempt))?;
            // If a mailbox has several users, the first one is the user of the mailbox.
            if self.insert_user(id, address, Some(&mailbox)).await?
                || (shared.is_none() && self.insert_user(id, address, None).await?)
            {
                return Ok(id);
            }
            // Another call created it in between, or the number belongs to another address.
            if let Some(known) = self.known_user(address, shared).await? {
                return Ok(known);
            }
            attempt += 1;
        }
    }

    /// What numbers of users are hashed with.
    pub(super) async fn user_id_key(&self) -> Result<Vec<u8>, OrderbookError> {
        let key = sqlx::query_scalar("SELECT key FROM user_id_key");
        Ok(key.fetch_one(&self.pool).await?)
    }

    async fn insert_user(
        &self,
        id: UserId,
        address: &Address,
        mailbox: Option<&Address>,
    ) -> Result<bool, OrderbookError> {
        let made = sqlx::query(
            "INSERT INTO users (user_id, email, mailbox) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(id.get())
        .bind(address.as_str())
        .bind(mailbox.map(Address::as_str))
        .execute(&self.pool)
        .await?;
        Ok(made.rows_affected() == 1)
    }

    /// The user of the address itself comes before the user of its mailbox.
    async fn known_user(
        &self,
        address: &Address,
        mailbox: Option<&Address>,
    ) -> Result<Option<UserId>, OrderbookError> {
        let id: Option<i64> = sqlx::query_scalar(
            "SELECT user_id FROM users WHERE email = $1 OR mailbox = $2
              ORDER BY email = $1 DESC LIMIT 1",
        )
        .bind(address.as_str())
        .bind(mailbox.map(Address::as_str))
        .fetch_optional(&self.pool)
        .await?;
        id.map(user_id).transpose()
    }

    /// Stores that a user has signed in with the right code, and from which address.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_sign_in(
        &self,
        user: UserId,
        from: Option<IpAddr>,
        trace: TraceParent,
    ) -> Result<(), OrderbookError> {
        sqlx::query("INSERT INTO sign_ins (user_id, address, trace_id) VALUES ($1, $2, $3)")
            .bind(user.get())
            .bind(from.map(|address| address.to_string()))
            .bind(trace.trace_id())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

const MISSING: OrderbookError = OrderbookError::Row {
    table: "users",
    column: "user_id",
};

pub(crate) fn user_id(id: i64) -> Result<UserId, OrderbookError> {
    UserId::new(id).map_err(|_| MISSING)
}
