//! What the adapters of the ledger share: the rules of admission and of counting events up, pure.

use super::{Admission, Admitted, AdmittedAs, Document, Event, Record};

/// What an admission answers, and the record to write; `None`: it is written already.
pub fn admit(known: Option<&Record>, document: &Document, fresh: Admission, recovered: Option<Admission>) -> (Admitted, Option<Record>) {
    let (admission, how) = match (known, recovered) {
        (Some(record), recovered) => {
            let changed = record.digest != document.digest;
            let mut admission = record.admission.clone();
            admission.generation += u64::from(changed);
            // A restored backup may be older than what labels say.
            if let Some(seen) = recovered.filter(|seen| seen.uid == admission.uid) {
                admission.generation = admission.generation.max(seen.generation);
            }
            let how = match (&record.tombstone, changed) {
                (Some(_), _) => AdmittedAs::Undeleted,
                (None, true) => AdmittedAs::Changed,
                (None, false) => AdmittedAs::Known,
            };
            (admission, how)
        }
        (None, Some(recovered)) => (recovered, AdmittedAs::Recovered),
        (None, None) => (fresh, AdmittedAs::New),
    };
    let admission = Admission { generation: admission.generation.max(1), ..admission };
    let Document { object, text, digest, origin } = document.clone();
    let record = Record { object, admission: admission.clone(), text, digest, origin, tombstone: None };
    (Admitted { admission, how }, (known != Some(&record)).then_some(record))
}

/// The event that stands for both when the new one only repeats the object's latest.
pub fn counted_up(latest: &Event, new: &Event) -> Option<Event> {
    let same = latest.object == new.object && latest.type_ == new.type_ && latest.reason == new.reason && latest.message == new.message;
    same.then(|| Event { count: latest.count.saturating_add(new.count.max(1)), ..new.clone() })
}
