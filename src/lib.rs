//! dockmaster: a Kubernetes-style reconciling operator for Docker hosts.
//!
//! Data flows one way; the split between deciding and doing is the heart of it.
//!
//! ```text
//!  directory ─► source ─► resource ─► desired ─┐   now, capabilities, facts
//!               parse      typed      lower    ├─► planner ─► Plan ─► executor ─► ContainerRuntime ─► Docker
//!  Docker ─► ContainerRuntime::observe ─► observed ┘ (pure)           (no choices)        │
//!                                            └─► status ─► StatusSink ─► source (file)  ◄─┘
//!  controller decides WHEN.  planner alone decides WHAT.  executor only does.
//!  http and cli read snapshots, write specs through a source, and enqueue references. Nothing else.
//! ```

pub mod resource;

pub mod desired;
pub mod observed;
pub mod planner;
pub mod tenancy;

pub mod executor;
pub mod runtime;
pub mod source;
pub mod state;
pub mod status;

pub mod helper;

pub mod cli;
pub mod config;
pub mod http;

pub mod controller;
