//! A spec that disappears, its tombstone, and its return.
