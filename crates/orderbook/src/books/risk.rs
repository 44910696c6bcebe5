//! The operators' rules about whose orders are refused.

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;

/// One rule, as the table has it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RiskRule {
    /// Which rule: `user-blocked`, `address-blocked`, `crowded-address`, `page-not-seen` or
    /// `impossible-timing`.
    pub rule: String,
    /// The subject of the rule: a user's id, an address or network, or `*`.
    pub subject: String,
    /// Its number, if it has one; otherwise 0.
    pub value: i64,
}

impl Orderbook {
    /// Grows with every change of the rules.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn risk_version(&self) -> Result<i64, OrderbookError> {
        let version = sqlx::query_scalar("SELECT version FROM risk_version");
        Ok(version.fetch_one(&self.pool).await?)
    }

    /// All rules, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn risk_rules(&self) -> Result<Vec<RiskRule>, OrderbookError> {
        let sql = "SELECT rule, subject, value FROM risk_rules ORDER BY rule, subject";
        Ok(sqlx::query_as(sql).fetch_all(&self.pool).await?)
    }

    /// Creates a rule or changes its number, and writes the audit, in one transaction.
    ///
    /// # Errors
    /// When the database fails, or the rule is none that the table takes.
    pub async fn put_risk_rule(
        &self,
        rule: &RiskRule,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO risk_rules (rule, subject, value) VALUES ($1, $2, $3)
             ON CONFLICT (rule, subject) DO UPDATE SET value = $3, updated_at = now()",
        )
        .bind(&rule.rule)
        .bind(&rule.subject)
        .bind(rule.value)
        .execute(&mut *transaction)
        .await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }

    /// Removes a rule and writes the audit, in one transaction.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove_risk_rule(
        &self,
        rule: &RiskRule,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("DELETE FROM risk_rules WHERE rule = $1 AND subject = $2")
            .bind(&rule.rule)
            .bind(&rule.subject)
            .execute(&mut *transaction)
            .await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}
