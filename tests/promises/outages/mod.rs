//! Faults that any store can have: it is away, mute or full, or its clock is wrong.

mod full_disks;
mod mute_stores;
mod store_outages;
mod wrong_clocks;
