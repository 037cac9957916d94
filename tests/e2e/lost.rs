//! The state directory lost.
