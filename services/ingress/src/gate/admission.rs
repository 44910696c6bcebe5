//! Load shedding: which requests are served when there are too many. Payments come before reads, and both before new
//! orders.
//!
//! Every class of requests has places of its own, so that a flood of one class takes no places of another. New
//! orders are refused first, for one of the reasons in [`NoRoom`]: too many orders are under way, or the queue of
//! the sale is too long. A refusal is the cheapest answer: it reads counters and sends bytes that were made at the
//! start.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::web::Bytes;
use seckill_domain::VoucherId;
use seckill_metrics::{Counter, Gauge};

use crate::http::problem::Problem;
use crate::metrics;

/// The route of [`Class::Order`].
pub(crate) const ORDERS_ROUTE: &str = "/api/v1/vouchers/{voucher_id}/orders";

/// Why an order would wait too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoom {
    /// The highest number of orders is already under way.
    InFlight,
    /// The queue of its sale is too long for the present speed of the calls to Redis.
    Queue,
    /// An order has been waiting for longer than expected: the calls to Redis do not return.
    Stalled,
}

impl NoRoom {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::InFlight, Self::Queue, Self::Stalled];

    /// As the metrics call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in-flight",
            Self::Queue => "queue",
            Self::Stalled => "stalled",
        }
    }
}

/// What a request of the public listener is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A payment, or a cancellation. Both end an order, and so reduce the load.
    Payment,
    /// A new order of this voucher.
    Order(VoucherId),
    /// Everything else of the API: the status of an order, the catalogue.
    Read,
    /// A request whose body is read first, and that takes a place when the body is complete
    /// ([`Admission::payment`], [`Admission::read`]). So a slow body takes no place of another request.
    Body,
    /// A page or a part of one. If it comes from memory it needs no place; if it has to be read from a store, it
    /// takes one then ([`Admission::page`]).
    Page,
}

impl Class {
    /// Decided by method and path alone, because nothing else has been read yet. A path that is not spelled like
    /// its route is answered 404, whatever its class ([`crate::http::request::is_canonical`]).
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Self {
        let Some(path) = path.strip_prefix("/api/v1/") else {
            return Self::Page;
        };
        if *method != Method::POST {
            return Self::Read;
        }
        let between = |prefix: &'static str, suffix: &'static str| {
            path.strip_prefix(prefix)?.strip_suffix(suffix)
        };
        if ["payments/webhook", "sign-in", "sign-in/codes"].contains(&path) {
            return Self::Body;
        }
        if between("orders/", "/cancel").is_some() {
            return Self::Payment;
        }
        // An order for a path without a valid voucher id is answered as cheaply.
        let voucher = between("vouchers/", "/orders").and_then(|id| VoucherId::from_str(id).ok());
        voucher.map_or(Self::Read, Self::Order)
    }
}

/// How many requests of a class may be under way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Payments and cancellations.
    pub payments: usize,
    /// Everything of the API that is neither these nor a new order; and as many pages.
    pub reads: usize,
}

/// The gate of the public listener.
pub struct Admission {
    payments: Room,
    reads: Room,
    pages: Room,
    orders: [(NoRoom, Counter); 3],
    orders_answered: Counter,
    orders_http: Counter,
    refusal: Problem,
    refusal_body: Bytes,
}

impl Admission {
    /// With all places free. The metrics recorder has to be installed before.
    #[must_use]
    pub fn new(places: Places) -> Self {
        let refused = |cause: NoRoom| {
            let labels = ["orders", cause.as_str()];
            (cause, metrics::ADMISSION_REFUSED.with(labels))
        };
        let refusal = Problem::overloaded();
        Self {
            payments: Room::new("payments", places.payments),
            reads: Room::new("reads", places.reads),
            pages: Room::new("pages", places.reads),
            orders: NoRoom::ALL.map(refused),
            orders_answered: metrics::ORDERS.with([refusal.name()]),
            orders_http: metrics::HTTP_REQUESTS.with([ORDERS_ROUTE, "503"]),
            refusal_body: refusal.body().into(),
            refusal,
        }
    }

    /// Admits a request, or refuses it. Its place is taken until the result is dropped. An order is counted
    /// elsewhere, when it is queued; `check_room` says whether there is room.
    #[must_use]
    pub fn admit(
        &self,
        class: Class,
        check_room: impl FnOnce(VoucherId) -> Result<(), NoRoom>,
    ) -> Option<Entered> {
        match class {
            Class::Payment => self.payments.enter().map(Entered::Place),
            Class::Read => self.reads.enter().map(Entered::Place),
            Class::Page | Class::Body => Some(Entered::Uncounted),
            Class::Order(voucher) => match check_room(voucher) {
                Ok(()) => Some(Entered::Uncounted),
                Err(cause) => {
                    self.count_order(cause);
                    None
                }
            },
        }
    }

    /// A place for a payment whose body is complete.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn payment(&self) -> Result<Place, Problem> {
        self.payments.enter().ok_or_else(Problem::overloaded)
    }

    /// A place for any other call whose body is complete.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn read(&self) -> Result<Place, Problem> {
        self.reads.enter().ok_or_else(Problem::overloaded)
    }

    /// A place for a page that has to be read from a store.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn page(&self) -> Result<Place, Problem> {
        self.pages.enter().ok_or_else(Problem::overloaded)
    }

    /// The answer to a request that was not admitted.
    #[must_use]
    pub fn refusal(&self) -> HttpResponse {
        self.refusal.respond_with(self.refusal_body.clone())
    }

    /// Counts the refusal as the handler and the middleware count other requests.
    fn count_order(&self, cause: NoRoom) {
        for (_, counter) in self.orders.iter().filter(|(known, _)| *known == cause) {
            counter.increment(1);
        }
        self.orders_answered.increment(1);
        self.orders_http.increment(1);
    }
}

/// The places of one class.
struct Room {
    places: usize,
    taken: Arc<AtomicUsize>,
    in_flight: Gauge,
    refused: Counter,
}

impl Room {
    fn new(class: &'static str, places: usize) -> Self {
        let labels = [class, NoRoom::InFlight.as_str()];
        Self {
            places,
            taken: Arc::default(),
            in_flight: metrics::IN_FLIGHT_REQUESTS.with([class]),
            refused: metrics::ADMISSION_REFUSED.with(labels),
        }
    }

    fn enter(&self) -> Option<Place> {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.in_flight.increment(1);
        let place = Place {
            taken: Arc::clone(&self.taken),
            in_flight: self.in_flight.clone(),
        };
        if before < self.places {
            return Some(place);
        }
        self.refused.increment(1);
        None
    }
}

/// A request that was admitted.
pub enum Entered {
    /// With a place in its class.
    Place(Place),
    /// Counted elsewhere, or not at all.
    Uncounted,
}

/// A place of a class that is in use.
pub struct Place {
    taken: Arc<AtomicUsize>,
    in_flight: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.in_flight.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_told_by_method_and_path() {
        let of = |method, path: &str| Class::of(&method, path);
        let order = Class::Order(VoucherId::new(7).unwrap());
        assert_eq!(of(Method::POST, "/api/v1/vouchers/7/orders"), order);
        for (path, class) in [
            ("/api/v1/orders/abc/cancel", Class::Payment),
            ("/api/v1/payments/webhook", Class::Body),
            ("/api/v1/sign-in", Class::Body),
        ] {
            assert_eq!(of(Method::POST, path), class, "{path}");
            assert_eq!(of(Method::GET, path), Class::Read, "{path}");
        }
        for path in [
            "/api/v1/sign-out",
            "/api/v1/vouchers/seven/orders",
            "/api/v1/vouchers/7/orders/8",
        ] {
            assert_eq!(of(Method::POST, path), Class::Read, "{path}");
        }
        for path in ["/vouchers/7/orders", "/sales/7", "/"] {
            assert_eq!(of(Method::POST, path), Class::Page, "{path}");
        }
        let vouchers = of(Method::GET, "/api/v1/vouchers/7/orders");
        assert_eq!(vouchers, Class::Read);
    }

    #[test]
    fn a_class_has_its_places_and_they_are_free_again_when_somebody_leaves() {
        let room = Room::new("reads", 2);
        let first = room.enter().unwrap();
        let second = room.enter();
        assert!(second.is_some());
        assert!(room.enter().is_none(), "both are taken");
        assert!(room.enter().is_none(), "also by nobody who was refused");
        drop(first);
        assert!(room.enter().is_some());
    }
}
