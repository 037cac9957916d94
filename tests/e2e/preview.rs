//! Previews: copied, expiring, gone.
