//! Services beside a workspace.
