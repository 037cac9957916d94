//! A directory of spec files as a source.

pub mod root;

pub use root::Root;
