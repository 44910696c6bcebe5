//! An append to Kafka on its way.

use std::cell::Cell;
use std::rc::Rc;

use seckill_domain::Event;

use crate::task::pause;

/// Steps after which a producer gives up.
const DELIVERY_STEPS: u32 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Flying,
    Acked,
    Unknown,
}

/// An append on its way.
pub(crate) struct Wire {
    pub(crate) event: Event,
    pub(crate) producer: usize,
    /// Whether it has left the process. It then arrives also if the process dies.
    pub(crate) sent: bool,
    pub(crate) not_before: u64,
    pub(crate) fate: Rc<Cell<Fate>>,
}

/// The delivery report that a producer waits for.
pub(crate) struct Delivery(pub(crate) Rc<Cell<Fate>>);

impl Delivery {
    /// Waits for the report. True if the brokers have acknowledged the record.
    pub(crate) async fn acknowledged(&self) -> bool {
        for _ in 0..DELIVERY_STEPS {
            pause().await;
            match self.0.get() {
                Fate::Flying => {}
                Fate::Acked => return true,
                Fate::Unknown => return false,
            }
        }
        false
    }
}
