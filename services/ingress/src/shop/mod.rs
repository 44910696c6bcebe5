//! The public catalogue and the buyers' pages.

pub mod pages;
pub mod representation;
pub mod vouchers;

use std::sync::Arc;

use self::pages::PaymentPage;
use crate::gate::Gate;
use crate::reads::Reads;

/// The state of the handlers of the catalogue and the pages.
pub struct Shop {
    /// Checks the caller, and limits how many pages are read at a time.
    pub gate: Arc<Gate>,
    /// Reads sales.
    pub reads: Reads,
    /// The URL of the payment page. Without it, pages show no button to pay.
    pub payment_page: Option<PaymentPage>,
}
