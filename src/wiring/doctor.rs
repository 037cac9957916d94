//! `doctor`.

use dockmaster::cli::args::DoctorArgs;
use dockmaster::cli::{Context, Failure};

/// Examines.
pub async fn run(_: &mut Context<'_>, _: &DoctorArgs) -> Result<u8, Failure> {
    Err(Failure::new("doctor is not in this version"))
}
