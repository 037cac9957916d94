//! The meaning of a document that has the right structure.

use super::structure::Finding;
use super::tree::Node;
use crate::resource::Resource;

/// All that is wrong with the meaning of a document.
pub fn check(_resource: &Resource, _tree: &Node) -> Vec<Finding> {
    Vec::new()
}
