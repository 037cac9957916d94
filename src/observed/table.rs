//! What an engine has many of, by id, and an index of it: what concerns one object alone looks at no other's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use crate::resource::ObjectRef;

/// What an entry can be found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// Its name, where that is not its id.
    Name(String),
    /// The object whose it is.
    Owner(ObjectRef),
}

/// What can be found by something else than its id.
pub trait Indexed {
    /// By what.
    fn index(&self) -> Vec<By>;
}

/// Entries by id. Read as a map; what changes it keeps the index right.
#[derive(Clone, Debug)]
pub struct Table<T> {
    entries: BTreeMap<String, T>,
    index: BTreeMap<By, BTreeSet<String>>,
}

impl<T: Indexed> Table<T> {
    /// The entries found by that, in the order of their ids.
    fn by(&self, by: By) -> impl Iterator<Item = &T> {
        self.index.get(&by).into_iter().flatten().filter_map(|id| self.entries.get(id))
    }

    /// The entries of that name.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.by(By::Name(name.to_owned()))
    }

    /// The entries of an object.
    pub fn of<'a>(&'a self, owner: &ObjectRef) -> impl Iterator<Item = &'a T> + use<'a, T> {
        self.by(By::Owner(owner.clone()))
    }

    /// Adds or exchanges one; gives the one before.
    pub fn insert(&mut self, id: String, entry: T) -> Option<T> {
        let before = self.remove(&id);
        for by in entry.index() {
            self.index.entry(by).or_default().insert(id.clone());
        }
        self.entries.insert(id, entry);
        before
    }

    /// Takes one away.
    pub fn remove(&mut self, id: &str) -> Option<T> {
        let entry = self.entries.remove(id)?;
        for by in entry.index() {
            if let Some(ids) = self.index.get_mut(&by) {
                ids.remove(id);
                if ids.is_empty() {
                    self.index.remove(&by);
                }
            }
        }
        Some(entry)
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), index: BTreeMap::new() }
    }
}

impl<T> Deref for Table<T> {
    type Target = BTreeMap<String, T>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

/// The index follows from the entries.
impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<T: Indexed> Extend<(String, T)> for Table<T> {
    fn extend<I: IntoIterator<Item = (String, T)>>(&mut self, entries: I) {
        for (id, entry) in entries {
            self.insert(id, entry);
        }
    }
}

impl<T: Indexed> FromIterator<(String, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(entries: I) -> Self {
        let mut table = Self::default();
        table.extend(entries);
        table
    }
}

impl<T> IntoIterator for Table<T> {
    type Item = (String, T);
    type IntoIter = std::collections::btree_map::IntoIter<String, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Kind;

    impl Indexed for (&str, &str) {
        fn index(&self) -> Vec<By> {
            let owner = (!self.1.is_empty()).then(|| By::Owner(object(self.1)));
            owner.into_iter().chain([By::Name(self.0.to_owned())]).collect()
        }
    }

    fn object(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Workspace, "a", name)
    }

    #[test]
    fn what_changes_is_found_by_what_it_is_now() {
        let mut table: Table<(&str, &str)> =
            [("1", ("x", "shop")), ("2", ("x", "")), ("3", ("y", "shop"))].map(|(id, entry)| (id.to_owned(), entry)).into_iter().collect();
        let ids = |table: &Table<(&str, &str)>, by: &By| table.index.get(by).map(|ids| ids.iter().cloned().collect::<Vec<_>>().join(" "));
        let (x, shop) = (By::Name("x".to_owned()), By::Owner(object("shop")));
        assert_eq!((table.named("x").count(), table.of(&object("shop")).count()), (2, 2));
        assert_eq!(table.insert("1".to_owned(), ("z", "other")), Some(("x", "shop")));
        assert_eq!((ids(&table, &x).as_deref(), ids(&table, &shop).as_deref()), (Some("2"), Some("3")));
        assert_eq!((table.remove("2"), table.remove("2")), (Some(("x", "")), None));
        assert_eq!((ids(&table, &x), table.len()), (None, 2));
        table.clear();
        assert!(table.is_empty() && table.index.is_empty());
    }
}
