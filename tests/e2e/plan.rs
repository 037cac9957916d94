//! What plan prints is what run does.
