//! Ports: leased, sticky, probed, exhausted.
