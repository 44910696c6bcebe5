//! Reading a sale to compare it with the log: its numbers and its holds, page by page, each page at
//! one moment.

use std::time::{Duration, Instant};

use seckill_domain::{Currency, Epoch, EventId, Offset, Timestamp, UserId, VoucherId};

use crate::calls::keys::SaleKeys;
use crate::calls::stock::Stock;
use crate::calls::view::Hold;
use crate::redis::error::StockError;
use crate::redis::reply::{Reply, parse, timestamp};
use crate::redis::script::{MAX_ITEMS, Script};

/// Holds looked at in one page. HSCAN may return somewhat more than it is asked for.
const PAGE_ITEMS: usize = MAX_ITEMS / 2;

/// A thousand holds or so.
const PAGES_BETWEEN_RESTS: usize = 32;

/// The prefix of a shrink's field.
const SHRINK: &str = "adj:";

/// A sale's numbers and some of its holds, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanPage {
    /// The nonce of the load that made the sale.
    pub(crate) load: String,
    /// The numbers.
    pub numbers: SaleNumbers,
    /// In no order. A page may be empty although more pages follow.
    pub fields: Vec<HoldsField>,
}

/// The numbers of a sale. Units as in [`crate::SaleView`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleNumbers {
    /// Units free.
    pub stock: i64,
    /// Units in live holds.
    pub held: i64,
    /// Units whose decision in the log is not known in Redis yet.
    pub unsettled: i64,
    /// The epoch.
    pub epoch: Epoch,
    /// Every record of the voucher below it is settled.
    pub position: Offset,
    /// Whether it was closed.
    pub sale_closed: bool,
    /// The terms it was loaded with.
    pub terms: GrantTerms,
    /// How often it was corrected since it was loaded.
    pub corrections: u64,
    /// Redis' clock.
    pub now: Timestamp,
}

/// The terms under which Redis grants units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantTerms {
    /// The most units in one order.
    pub max_quantity: u32,
    /// The price of one unit, in cents.
    pub price_cents: i64,
    /// Its currency.
    pub currency: Currency,
    /// When orders are first taken.
    pub opens_at: Timestamp,
    /// When orders are no longer taken.
    pub closes_at: Timestamp,
    /// The time to pay, in microseconds.
    pub hold_us: i64,
    /// Whether an order needs a sale token.
    pub requires_sale_token: bool,
}

/// A field of the holds hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldsField {
    /// Its name.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What it says.
    pub content: FieldContent,
    /// Whether the event of what it names is pending.
    pub pending: bool,
}

/// What a field of the holds hash says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldContent {
    /// A buyer's hold.
    Hold(UserId, Hold),
    /// Units taken by a shrink; `decided` when the log's decision on it is known here.
    Shrink {
        /// Its event.
        event_id: EventId,
        /// How many.
        units: i64,
        /// When, by Redis' clock.
        at: Timestamp,
        /// Whether they are not counted any more.
        decided: bool,
    },
    /// A text that no script writes.
    Unreadable,
}

impl HoldsField {
    fn new(name: String, text: String, pending: bool) -> Self {
        let content = FieldContent::read(&name, &text).unwrap_or(FieldContent::Unreadable);
        Self {
            name,
            text,
            content,
            pending,
        }
    }

    /// Whether its event is neither pending nor, after `in_flight`, still on its way to the log.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp, in_flight: Duration) -> bool {
        let at = match &self.content {
            FieldContent::Hold(_, hold) => hold.reserved_at,
            FieldContent::Shrink { at, .. } => *at,
            FieldContent::Unreadable => return false,
        };
        let age_us = now.as_micros().saturating_sub(at.as_micros());
        !self.pending && u128::try_from(age_us).is_ok_and(|age| age > in_flight.as_micros())
    }
}

impl FieldContent {
    fn read(name: &str, text: &str) -> Result<Self, StockError> {
        let Some(event_id) = name.strip_prefix(SHRINK) else {
            return Ok(Self::Hold(parse(name)?, Hold::from_text(text)?));
        };
        let fields: Vec<&str> = text.split('|').collect();
        let [units, at, state @ ("t" | "d")] = fields[..] else {
            return Err(StockError::Protocol(format!("shrink {text:?}")));
        };
        Ok(Self::Shrink {
            event_id: parse(event_id)?,
            units: parse(units)?,
            at: timestamp(at)?,
            decided: state == "d",
        })
    }
}

impl FieldContent {
    /// The text as the scripts write it; none for [`Self::Unreadable`].
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Self::Hold(_, hold) => Some(hold.to_text()),
            Self::Shrink {
                units, at, decided, ..
            } => {
                let state = if *decided { "d" } else { "t" };
                Some(format!("{units}|{}|{state}", at.as_micros()))
            }
            Self::Unreadable => None,
        }
    }
}

/// How a sale is scanned.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scan {
    also_shut: bool,
    /// Half of the time is left to others.
    rests: bool,
}

impl Scan {
    /// Beside orders that must not wait for it: after each thousand holds or so it rests as long as they took.
    pub(crate) const fn with_rests() -> Self {
        Self {
            also_shut: false,
            rests: true,
        }
    }
}

impl Stock {
    /// All pages of a scan of the sale's holds. None: the sale is not served.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] when the sale's numbers are not numbers.
    pub async fn scan(&self, voucher: VoucherId) -> Result<Option<Vec<ScanPage>>, StockError> {
        self.all_pages(voucher, Scan::default()).await
    }

    /// The same beside orders that must not wait for it: after each thousand holds or so it rests as long as they took.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn scan_with_rests(
        &self,
        voucher: VoucherId,
    ) -> Result<Option<Vec<ScanPage>>, StockError> {
        self.all_pages(voucher, Scan::with_rests()).await
    }

    /// The same, also for a sale that is shut: what it held before it is loaded again. None: Redis has lost
    /// the sale, or a part of it.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub async fn scan_shut(&self, voucher: VoucherId) -> Result<Option<Vec<ScanPage>>, StockError> {
        let scan = Scan {
            also_shut: true,
            ..Scan::default()
        };
        self.all_pages(voucher, scan).await
    }

    async fn all_pages(
        &self,
        voucher: VoucherId,
        scan: Scan,
    ) -> Result<Option<Vec<ScanPage>>, StockError> {
        let mut pages = Vec::new();
        let served = self
            .scan_pages(voucher, scan, |page| pages.push(page))
            .await?;
        Ok(served.then_some(pages))
    }

    /// Takes each page. False: the sale is not served (any more).
    pub(crate) async fn scan_pages(
        &self,
        voucher: VoucherId,
        scan: Scan,
        mut take: impl FnMut(ScanPage),
    ) -> Result<bool, StockError> {
        let (mut pages, mut cursor) = (0_usize, 0);
        let mut rested = Instant::now();
        loop {
            let connection = self.connection_for(voucher).await?;
            let keys = SaleKeys::of(connection.prefix(), voucher);
            let mut cmd =
                connection.invocation(Script::Scan, &[&keys.sale, &keys.holds, &keys.outbox]);
            cmd.arg(cursor)
                .arg(PAGE_ITEMS)
                .arg(u8::from(scan.also_shut));
            let mut reply = connection.run(&cmd).await?;
            let (page, next) = match reply.answer() {
                "ok" => read_page(&mut reply)?,
                _ if reply.is_not_served() => return Ok(false),
                _ => return Err(reply.unexpected()),
            };
            take(page);
            pages += 1;
            if next == 0 {
                return Ok(true);
            }
            cursor = next;
            if scan.rests && pages.is_multiple_of(PAGES_BETWEEN_RESTS) {
                tokio::time::sleep(rested.elapsed()).await;
                rested = Instant::now();
            }
        }
    }
}

/// The page and the next cursor, which is 0 at the end.
fn read_page(reply: &mut Reply) -> Result<(ScanPage, u64), StockError> {
    let cursor = reply.parse()?;
    let load = reply.text()?;
    let numbers = SaleNumbers {
        stock: reply.parse()?,
        held: reply.parse()?,
        unsettled: reply.parse()?,
        epoch: reply.epoch()?,
        position: reply.offset()?,
        sale_closed: reply.text()? == "closed",
        terms: GrantTerms {
            max_quantity: reply.parse()?,
            price_cents: reply.parse()?,
            currency: reply.parse()?,
            opens_at: reply.timestamp()?,
            closes_at: reply.timestamp()?,
            hold_us: reply.parse()?,
            requires_sale_token: reply.text()? == "1",
        },
        corrections: reply.parse()?,
        now: reply.timestamp()?,
    };
    let mut fields = Vec::new();
    while let Some(name) = reply.next_text()? {
        let text = reply.text()?;
        let pending = reply.text()? == "1";
        fields.push(HoldsField::new(name, text, pending));
    }
    let page = ScanPage {
        load,
        numbers,
        fields,
    };
    Ok((page, cursor))
}
