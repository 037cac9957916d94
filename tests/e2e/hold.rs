//! What is not a deletion.
