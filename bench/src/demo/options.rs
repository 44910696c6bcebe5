//! The demo's flags.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

/// How large the demo's sale is.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Units on sale
    #[arg(long, default_value_t = 1_000)]
    pub units: u32,
    /// Buyers; at least twice the units, so that demand outlasts what lapses
    #[arg(long, default_value_t = 20_000)]
    pub buyers: u32,
    /// Connections that they share
    #[arg(long, default_value_t = 256)]
    pub connections: usize,
    /// Seconds to pay; more where a limit makes the first wave last
    #[arg(long, default_value_t = 5)]
    pub hold_seconds: u32,
    /// How many of a hundred orders of the first wave are paid; the others lapse
    #[arg(long, default_value_t = 70)]
    pub pay_percent: u32,
    /// Who pays, who clicks twice and in which order they come follows from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl DemoOptions {
    /// Checks what clap cannot.
    ///
    /// # Errors
    /// When the numbers do not make a sale in which everything can be sold.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.units > 0, "--units is at least 1");
        ensure!(self.connections > 0, "--connections is at least 1");
        ensure!(self.pay_percent <= 100, "--pay-percent is at most 100");
        ensure!(
            (1..=300).contains(&self.hold_seconds),
            "--hold-seconds is from 1 to 300: the demo waits for it twice"
        );
        ensure!(
            u64::from(self.buyers) >= 2 * u64::from(self.units),
            "--buyers is at least twice --units: what lapses is to be sold again"
        );
        Ok(())
    }

    /// Seconds to pay: who bought first still can when the wave is over, which a limit makes last.
    #[must_use]
    pub fn seconds_to_pay(&self, limit_per_second: u32) -> u32 {
        let selling = self.units.checked_div(limit_per_second).unwrap_or(0);
        self.hold_seconds + 3 * selling
    }

    /// How long unpaid orders may take to be gone from all stores, with room for a slow machine.
    #[must_use]
    pub fn lapse_deadline(&self, limit_per_second: u32, grace_seconds: u64) -> Duration {
        let seconds_to_pay = u64::from(self.seconds_to_pay(limit_per_second));
        Duration::from_secs(seconds_to_pay + grace_seconds + 30)
    }
}
