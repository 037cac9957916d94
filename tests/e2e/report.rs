//! Status in files.
