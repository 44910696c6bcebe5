//! Who a buyer is: addresses, mailed codes, how often a code is sent, when a token renews
//! itself, and the number of the user of an address or of an identity provider's subject. Pure rules: no clock, no store, no mail.

mod address;
mod code;
mod limits;
mod renewal;
mod subject;
mod user_number;

pub use address::{Address, AddressError, AddressHash, Domain, DomainError};
pub use code::{CODE_DIGITS, Code, CodeHash, CodeKey, LONG_CODE_DIGITS, RandomError};
pub use limits::{Limit, LimitError, Limits};
pub use renewal::{Level, RENEWALS_MAX, Renewal, renew};
pub use subject::{Subject, SubjectError};
pub use user_number::{USER_NUMBER_MIN, is_subject_number, subject_number, user_number};
