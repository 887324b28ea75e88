//! The scanners that a source is by name.

use std::sync::Arc;

/// How many are kept.
const MAX_TOOLS: usize = 8;

/// Keeps one, once.
pub(super) fn keep(tools: &mut Vec<Arc<str>>, tool: &Arc<str>) {
    if tools.len() < MAX_TOOLS && !tools.contains(tool) {
        tools.push(Arc::clone(tool));
    }
}
