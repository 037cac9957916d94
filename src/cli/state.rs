//! `state backup|restore`: what the operator knows, as one file.

use super::args::StateAction;
use super::out::Failure;
use super::{Context, terminal};
use crate::state::backup;

/// Writes the copy, or puts it back.
pub async fn run(context: &mut Context<'_>, action: &StateAction) -> Result<(), Failure> {
    let state = context.state_dir.clone();
    match action {
        StateAction::Backup { file, overwrite } => {
            backup::backup(&state, file, *overwrite).await?;
            context.out.line(format_args!("{} written", file.display()))?;
        }
        StateAction::Restore { file, yes } => {
            let question = format!("Put {} in the place of the state in {}?", file.display(), state.display());
            if !yes && !terminal::confirm(context, &question).await? {
                return Err(Failure::new("nothing was changed"));
            }
            backup::restore(&state, file).await?;
            context.out.line(format_args!("{} restored; what was there is kept beside it as {}", state.display(), backup::REPLACED))?;
        }
    }
    Ok(())
}
