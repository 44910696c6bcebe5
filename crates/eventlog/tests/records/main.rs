//! The records' bytes: what is written, what is read back, and what is refused.

mod golden;
mod hostile;
mod refused;
mod samples;
