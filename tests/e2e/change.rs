//! A changed spec becomes the smallest change.
