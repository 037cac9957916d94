//! Images: pulled, with credentials, tags that move.
