//! What people read on the pages and in their scripts: one file a language. A text that one of them
//! lacks or has too much does not compile; one that nobody shows, or that a script asks for and does
//! not get, fails a test.

mod en;
#[cfg(test)]
mod tests;
mod zh;

use seckill_domain::Refusal;
use serde::{Serialize, Serializer};

use super::language::Language;
use crate::http::problem::{RefusalText, text_of};
use crate::reads::VoucherStatus;

impl Language {
    pub(crate) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &en::TEXTS,
            Self::Chinese => &zh::TEXTS,
        }
    }
}

/// Scripts get them as `TEXTS`. `{}` stands for what is filled in.
#[derive(Debug, Serialize)]
pub(crate) struct Texts {
    /// Of the page's `lang`.
    pub(crate) tag: &'static str,
    /// The language's name in itself.
    pub(crate) own_name: &'static str,
    // Around every page.
    pub(crate) skip: &'static str,
    pub(crate) main_navigation: &'static str,
    pub(crate) brand: &'static str,
    pub(crate) my_orders: &'static str,
    pub(crate) sign_in: &'static str,
    pub(crate) sign_out: &'static str,
    pub(crate) no_script: &'static str,
    pub(crate) try_again: &'static str,
    // Sales.
    pub(crate) sales: &'static str,
    pub(crate) all_sales: &'static str,
    pub(crate) no_sales: &'static str,
    pub(crate) sale_number: &'static str,
    pub(crate) scheduled: &'static str,
    pub(crate) open: &'static str,
    pub(crate) sold_out: &'static str,
    pub(crate) loading: &'static str,
    pub(crate) over: &'static str,
    pub(crate) off_the_shelf: &'static str,
    pub(crate) left_before: &'static str,
    pub(crate) left_after: &'static str,
    pub(crate) opens_in: &'static str,
    pub(crate) ends_in: &'static str,
    pub(crate) opens_at: &'static str,
    pub(crate) ends_at: &'static str,
    pub(crate) days: &'static str,
    pub(crate) units_at_most_before: &'static str,
    pub(crate) units_at_most_after: &'static str,
    pub(crate) buy: &'static str,
    pub(crate) placing: &'static str,
    pub(crate) answer_lost: &'static str,
    pub(crate) page_outdated: &'static str,
    // Orders.
    pub(crate) your_order: &'static str,
    pub(crate) order_status: &'static str,
    pub(crate) order_is: &'static str,
    pub(crate) order_number: &'static str,
    pub(crate) ordered_at: &'static str,
    pub(crate) one_unit: &'static str,
    pub(crate) units: &'static str,
    pub(crate) pay: &'static str,
    pub(crate) cancel: &'static str,
    pub(crate) cancelling: &'static str,
    pub(crate) time_to_pay: &'static str,
    pub(crate) time_to_pay_over: &'static str,
    pub(crate) no_orders: &'static str,
    pub(crate) more: &'static str,
    pub(crate) sign_out_everywhere: &'static str,
    pub(crate) order_pending: &'static str,
    pub(crate) order_unpaid: &'static str,
    pub(crate) order_paid: &'static str,
    pub(crate) order_expired: &'static str,
    pub(crate) order_cancelled: &'static str,
    pub(crate) order_rejected: &'static str,
    pub(crate) refund_due: &'static str,
    // The sign-in.
    pub(crate) email: &'static str,
    pub(crate) send_code: &'static str,
    pub(crate) code: &'static str,
    pub(crate) other_address: &'static str,
    pub(crate) code_sent: &'static str,
    pub(crate) wrong_code: &'static str,
    // Pages that are not served.
    pub(crate) not_found: &'static str,
    pub(crate) not_available: &'static str,
    pub(crate) operators: Operators,
    pub(crate) problems: Problems,
}

/// What a buyer or an operator does next, by the name of a problem's `type`.
#[derive(Debug)]
pub(crate) struct Problems {
    /// This language's sentence for a refusal of an order.
    of_refusal: fn(&RefusalText) -> &'static str,
    /// Sorted.
    others: &'static [(&'static str, &'static str)],
}

/// Of the operators' page. Names of events, answers and units of the log are the same everywhere.
#[derive(Debug, Serialize)]
pub(crate) struct Operators {
    pub(crate) title: &'static str,
    pub(crate) admin_token: &'static str,
    pub(crate) wrong_token: &'static str,
    pub(crate) show: &'static str,
    pub(crate) now: &'static str,
    pub(crate) orders_rate: &'static str,
    pub(crate) refusals_rate: &'static str,
    pub(crate) fold_lag: &'static str,
    pub(crate) effects_lag: &'static str,
    pub(crate) lag: &'static str,
    pub(crate) dead_letters: &'static str,
    pub(crate) last_minutes: &'static str,
    pub(crate) refused_rate: &'static str,
    pub(crate) lag_seconds: &'static str,
    pub(crate) latency: &'static str,
    pub(crate) stock: &'static str,
    pub(crate) time: &'static str,
    pub(crate) answers: &'static str,
    pub(crate) answer: &'static str,
    pub(crate) a_second: &'static str,
    pub(crate) in_all: &'static str,
    pub(crate) law_of_sales: &'static str,
    pub(crate) sale: &'static str,
    pub(crate) status: &'static str,
    pub(crate) initial: &'static str,
    pub(crate) adjusted: &'static str,
    pub(crate) available: &'static str,
    pub(crate) unpaid: &'static str,
    pub(crate) paid: &'static str,
    pub(crate) redis_free: &'static str,
    pub(crate) in_flight: &'static str,
    pub(crate) drift: &'static str,
    pub(crate) law: &'static str,
    pub(crate) holds: &'static str,
    pub(crate) broken: &'static str,
    pub(crate) status_scheduled: &'static str,
    pub(crate) status_open: &'static str,
    pub(crate) status_sold_out: &'static str,
    pub(crate) status_closed: &'static str,
    pub(crate) timeline: &'static str,
    pub(crate) order_id: &'static str,
    pub(crate) offset: &'static str,
    pub(crate) written: &'static str,
    pub(crate) event: &'static str,
    pub(crate) decided: &'static str,
    pub(crate) trace: &'static str,
    pub(crate) who: &'static str,
    pub(crate) shared_token: &'static str,
    pub(crate) role_viewer: &'static str,
    pub(crate) role_operator: &'static str,
    pub(crate) role_admin: &'static str,
    pub(crate) held: &'static str,
    pub(crate) ledger: &'static str,
    pub(crate) changes: &'static str,
    pub(crate) delta: &'static str,
    pub(crate) accepted: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) yes: &'static str,
    pub(crate) no: &'static str,
    pub(crate) audit: &'static str,
    pub(crate) noted: &'static str,
    pub(crate) actor: &'static str,
    pub(crate) command: &'static str,
    pub(crate) audit_more: &'static str,
    pub(crate) became: &'static str,
    pub(crate) opens: &'static str,
    pub(crate) closes: &'static str,
    pub(crate) sell_through: &'static str,
    pub(crate) sold_out_after: &'static str,
    pub(crate) expiry_late: &'static str,
    pub(crate) seconds: &'static str,
    pub(crate) funnel: &'static str,
    pub(crate) state: &'static str,
    pub(crate) orders: &'static str,
    pub(crate) of_admitted: &'static str,
    pub(crate) admitted: &'static str,
    pub(crate) overdue: &'static str,
    pub(crate) expired: &'static str,
    pub(crate) cancelled: &'static str,
    pub(crate) rejected: &'static str,
    pub(crate) refused_before: &'static str,
    pub(crate) refunds: &'static str,
    pub(crate) payments: &'static str,
    pub(crate) minor_units: &'static str,
    pub(crate) currency: &'static str,
    pub(crate) refund_unknown_order: &'static str,
    pub(crate) refund_wrong_amount: &'static str,
    pub(crate) refund_already_paid: &'static str,
    pub(crate) refund_order_expired: &'static str,
    pub(crate) refund_order_cancelled: &'static str,
    pub(crate) refund_order_rejected: &'static str,
    pub(crate) restock_this: &'static str,
    pub(crate) restock_means: &'static str,
    pub(crate) close_this: &'static str,
    pub(crate) close_means: &'static str,
    pub(crate) units_to_add: &'static str,
    pub(crate) type_the_sale: &'static str,
    pub(crate) dismiss: &'static str,
    pub(crate) restock_done: &'static str,
    pub(crate) close_done: &'static str,
    pub(crate) outcome_unknown: &'static str,
    pub(crate) left_unknown: &'static str,
    pub(crate) search: &'static str,
    pub(crate) search_by: &'static str,
    pub(crate) search_text: &'static str,
    pub(crate) user_id: &'static str,
    pub(crate) payment_id: &'static str,
    pub(crate) units: &'static str,
    pub(crate) reserved_at: &'static str,
    pub(crate) refund: &'static str,
    pub(crate) nothing_found: &'static str,
    pub(crate) found_more: &'static str,
    pub(crate) letters: &'static str,
    pub(crate) letters_are: &'static str,
    pub(crate) letter: &'static str,
    pub(crate) cause: &'static str,
    pub(crate) fate: &'static str,
    pub(crate) fate_open: &'static str,
    pub(crate) fate_redriven: &'static str,
    pub(crate) fate_discarded: &'static str,
    pub(crate) letter_readable: &'static str,
    pub(crate) letter_unreadable: &'static str,
    pub(crate) letter_waits: &'static str,
    pub(crate) letter_dealt_with: &'static str,
    pub(crate) letter_gone: &'static str,
    pub(crate) redrive_this: &'static str,
    pub(crate) redrive_means: &'static str,
    pub(crate) type_the_record: &'static str,
    pub(crate) redrive_done: &'static str,
    pub(crate) findings: &'static str,
    pub(crate) findings_are: &'static str,
    pub(crate) invariant: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) detail: &'static str,
    pub(crate) since: &'static str,
}

impl Texts {
    /// What a page says of a problem, whose own `detail` is for programs and in English.
    pub(crate) fn problem(&self, name: &str) -> &'static str {
        let known = self.problems.all().find(|(known, _)| *known == name);
        known.map_or(self.try_again, |(_, text)| text)
    }

    pub(crate) fn status(&self, status: VoucherStatus, ended: bool) -> &'static str {
        match status {
            _ if ended => self.over,
            VoucherStatus::Scheduled => self.scheduled,
            VoucherStatus::Open => self.open,
            VoucherStatus::SoldOut => self.sold_out,
            VoucherStatus::Closed => self.loading,
        }
    }
}

impl Problems {
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let refusals = Refusal::examples().into_iter();
        let refusals =
            refusals.map(|refusal| (refusal.name(), (self.of_refusal)(&text_of(refusal))));
        refusals.chain(self.others.iter().copied())
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.all())
    }
}
