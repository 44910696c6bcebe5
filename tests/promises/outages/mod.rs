//! Faults that any store can have: it is down, it does not answer, its disk is full, or its clock is wrong.

mod full_disks;
mod mute_stores;
mod store_outages;
mod wrong_clocks;
