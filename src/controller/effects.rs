//! What runs a plan's operations: Docker's by the runtime, facts by the ledger. Nothing runs once mutation is forbidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;

use crate::executor::Effects;
use crate::observed::ContainerId;
use crate::planner::Operation;
use crate::resource::{ObjectRef, Uid};
use crate::runtime::{ContainerRuntime, Error, Outcome, Refusal};
use crate::state::{Ledger, LedgerError, Pools};

/// Whether this process may change anything: while it holds the lock on the engine. Given back, it is another permission, so that what
/// was planned under the one before is not carried on.
#[derive(Clone, Default)]
pub struct Permission(Arc<AtomicU64>);

/// The permission as it was when something was planned.
#[derive(Clone)]
pub struct Grant {
    of: Permission,
    number: u64,
}

impl Permission {
    /// Takes it away. An odd number stands for none.
    pub fn revoke(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Gives another.
    pub fn restore(&self) {
        if self.is_revoked() {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether it was taken away.
    pub fn is_revoked(&self) -> bool {
        !self.0.load(Ordering::SeqCst).is_multiple_of(2)
    }

    /// The present one.
    pub fn grant(&self) -> Grant {
        Grant { of: self.clone(), number: self.0.load(Ordering::SeqCst) }
    }
}

impl Grant {
    /// Whether it still holds.
    pub fn holds(&self) -> bool {
        self.number.is_multiple_of(2) && self.of.0.load(Ordering::SeqCst) == self.number
    }
}

/// The effects of one object's plan.
pub struct ObjectEffects<'a> {
    /// Docker.
    pub runtime: &'a dyn ContainerRuntime,
    /// History.
    pub ledger: &'a dyn Ledger,
    /// Whose plan.
    pub object: &'a ObjectRef,
    /// Which life.
    pub uid: &'a Uid,
    /// Whether anything may be changed.
    pub permission: &'a Grant,
}

impl Effects for ObjectEffects<'_> {
    fn apply<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async move {
            if !self.permission.holds() {
                return Err(Error::Rejected { reason: Refusal::Other, message: "the lock on the engine was lost; nothing is changed without it".to_owned() });
            }
            match operation {
                Operation::Record(fact) => self.ledger.record(self.uid, std::slice::from_ref(fact)).await.map_err(failed)?,
                Operation::ReleaseLeases => {
                    self.ledger.grant(self.object, self.uid, &[], &[], &Pools::default()).await.map_err(failed)?;
                }
                Operation::Release => self.ledger.release(self.object).await.map_err(failed)?,
                Operation::EnsureNetwork { .. }
                | Operation::RemoveNetwork { .. }
                | Operation::EnsureVolume { .. }
                | Operation::RemoveVolume { .. }
                | Operation::Create { .. }
                | Operation::Start(_)
                | Operation::Stop { .. }
                | Operation::Remove(_)
                | Operation::Rename { .. }
                | Operation::Update { .. }
                | Operation::Connect { .. }
                | Operation::Disconnect { .. }
                | Operation::Pause(_)
                | Operation::Unpause(_)
                | Operation::Begin(..)
                | Operation::Forget(_) => return self.runtime.execute(operation, target).await,
            }
            Ok(Outcome::Done)
        })
    }
}

/// A ledger that fails is tried again: nothing that depends on the fact was done.
fn failed(error: LedgerError) -> Error {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Error::Transient(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_under_a_lost_permission_is_not_carried_on() {
        let permission = Permission::default();
        let before = permission.grant();
        assert!(before.holds());
        permission.revoke();
        permission.revoke();
        assert!(permission.is_revoked() && !before.holds() && !permission.grant().holds());
        permission.restore();
        permission.restore();
        assert!(!permission.is_revoked() && permission.grant().holds());
        assert!(!before.holds(), "another permission");
    }
}
