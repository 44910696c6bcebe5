//! Who a buyer is: addresses, mailed codes, how often a code is sent, and when a token renews
//! itself. Pure rules: no clock, no store, no mail.

mod address;
mod code;
mod limits;
mod renewal;

pub use address::{Address, AddressError, AddressHash, Domain, DomainError};
pub use code::{CODE_DIGITS, Code, CodeHash, CodeKey, RandomError};
pub use limits::{Limit, LimitError, Limits};
pub use renewal::{Level, RENEWALS_MAX, Renewal, renew};
