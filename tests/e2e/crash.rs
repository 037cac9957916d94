//! The operator killed at any point always ends right.
