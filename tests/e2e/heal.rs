//! What people and accidents do to containers, networks and volumes is mended.
