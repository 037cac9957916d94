//! What runs a plan's operations: Docker's by the runtime, facts by the ledger. Nothing runs once mutation is forbidden.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;

use crate::executor::Effects;
use crate::observed::ContainerId;
use crate::planner::Operation;
use crate::resource::{ObjectRef, Uid};
use crate::runtime::{ContainerRuntime, Error, Outcome, Refusal};
use crate::state::{Ledger, LedgerError, Pools};

/// Whether this process may change anything: taken away for good when the lock on the engine is lost.
#[derive(Clone, Default)]
pub struct Permission(Arc<AtomicBool>);

impl Permission {
    /// Takes it away.
    pub fn revoke(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was taken away.
    pub fn is_revoked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
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
    pub permission: &'a Permission,
}

impl Effects for ObjectEffects<'_> {
    fn apply<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
        Box::pin(async move {
            if self.permission.is_revoked() {
                return Err(Error::Rejected { reason: Refusal::Other, message: "another operator has the engine; nothing is changed any more".to_owned() });
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
