//! One writer per engine and installation.
