//! What deployment asks of the engine.
