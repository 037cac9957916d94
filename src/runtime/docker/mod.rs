//! The Docker adapter: the only place that knows bollard.

pub mod connect;
pub mod error;
