//! Idle, lifetime, hours, start and extend.
