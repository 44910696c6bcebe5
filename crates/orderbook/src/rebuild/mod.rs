//! Building the view again beside the one in use, and exchanging the two.

pub(crate) mod fold;
pub(crate) mod proof;
pub(crate) mod record;
pub(crate) mod shadow;
pub(crate) mod swap;
