//! The metrics of tokens.

seckill_metrics::catalogue! {
    CounterEntry PREVIOUS_SECRET_USES = "seckill_previous_secret_uses_total" ["secret"] "Credentials that were good by the previous secret only: when it stops growing, that secret can go.";
}
