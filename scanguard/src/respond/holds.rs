//! The terms on which the kernel may hold sources, as the kernel has them.

use super::enforcer::Enforcer;
use crate::{detect::Plain, sensor::gate::HoldTerms};

/// The terms of holds.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// The evidence on which rules match whatever else is known.
    pub(super) plain: Vec<Plain>,
    in_kernel: Option<HoldTerms>,
}

impl Holds {
    /// The terms that the kernel has; none: it holds no source.
    pub(super) fn in_kernel(&self) -> Option<HoldTerms> {
        self.in_kernel
    }

    /// Writes the terms to the kernel if they have changed.
    pub(super) fn write(&mut self, terms: Option<HoldTerms>, enforcer: &mut dyn Enforcer) {
        if terms == self.in_kernel {
            return;
        }
        match enforcer.set_hold(terms) {
            Ok(()) => self.in_kernel = terms,
            Err(error) => tracing::error!("the terms of holds could not be written to the kernel: {error}"),
        }
    }
}
