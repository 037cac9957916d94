//! Whether it runs: the declared state, idle, lifetime, hours and quota, all from facts.
