//! What the operator says over sockets: for now its control socket, on which the command line talks to it.

pub mod control;
pub mod handle;
