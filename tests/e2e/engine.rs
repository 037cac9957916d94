//! The engine stopped, killed and restarted.
