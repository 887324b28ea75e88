//! The pinned links of a running agent, and what is removed around them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aya::programs::links::{FdLink, PinnedLink};

use super::{
    LINKS, LinkKind, PinsError,
    bpffs::{self, Pinned},
    layout,
    lock::Lock,
    names, remove,
};

/// The pins, locked for this agent; or nothing, if nothing is pinned.
#[derive(Debug)]
pub struct Pins {
    pub(super) held: Option<Held>,
}

/// The locked directory.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) root: PathBuf,
    /// Name of the layout in use.
    pub(super) layout: String,
    /// Whether the pins are left to the next agent.
    pub(super) keep: bool,
    /// Whether nothing was pinned before.
    pub(super) is_fresh: bool,
    pub(super) is_settled: bool,
    pub(super) lock: Lock,
}

impl Pins {
    /// Whether pins are left when the agent ends.
    pub fn keep(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.keep)
    }

    /// The directory, while pins are kept.
    pub fn root(&self) -> Option<&Path> {
        self.held.as_ref().filter(|held| held.keep).map(|held| held.root.as_path())
    }

    /// The link that is pinned for an interface and still attached to it, with the id of its program.
    pub(in crate::sensor) fn find(
        &self,
        kind: LinkKind,
        index: u32,
    ) -> Result<Option<(FdLink, u32)>, PinsError> {
        let Some(held) = &self.held else {
            return Ok(None);
        };
        let path = held.link(kind, index);
        if !path.exists() {
            return Ok(None);
        }
        let corrupt = || PinsError::Corrupt {
            path: path.clone(),
            wanted: format!("a link of the {} program", kind.label()),
            root: held.root.clone(),
        };
        match bpffs::open(&path) {
            Ok((_, Pinned::Link { program, interface })) if interface == index => {
                let link = PinnedLink::from_pin(&path).map_err(|_| corrupt())?;
                Ok(Some((link.into(), program)))
            }
            // Its interface is gone, and another one has its index.
            Ok((_, Pinned::Link { .. })) => Ok(None),
            Ok((_, Pinned::Map(_) | Pinned::Other)) => Err(corrupt()),
            Err(_) => Err(corrupt()),
        }
    }

    /// Pins a new link, if links are left to the next agent.
    pub(in crate::sensor) fn pin(
        &self,
        kind: LinkKind,
        index: u32,
        link: FdLink,
    ) -> Result<FdLink, PinsError> {
        let Some(held) = self.held.as_ref().filter(|held| held.keep) else {
            return Ok(link);
        };
        self.forget(kind, index);
        let links = held.lock.place().join(LINKS);
        std::fs::create_dir_all(&links).map_err(PinsError::io("making", &links))?;
        let path = held.link(kind, index);
        let pinned = link.pin(&path).map_err(|error| PinsError::map(&path, &error))?;
        Ok(pinned.into())
    }

    /// Detaches a pinned link and removes its pin, if there is one.
    pub(in crate::sensor) fn forget(&self, kind: LinkKind, index: u32) {
        let Some(held) = &self.held else {
            return;
        };
        let path = held.link(kind, index);
        if path.exists()
            && let Err(error) = remove::link(&path)
        {
            tracing::warn!("a link is left behind: {error}");
        }
    }

    /// To be called when the programs are attached to these interfaces and no others: removes pins that are not needed
    /// any more. If nothing is left to the next agent, it removes every pin; the links then end with this agent.
    ///
    /// # Errors
    /// Something could not be removed.
    pub(in crate::sensor) fn settle(
        &mut self,
        attached: &BTreeSet<(LinkKind, u32)>,
    ) -> Result<(), PinsError> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let links = held.root.join(LINKS);
        for name in names(&links)? {
            let is_used = LinkKind::of_name(&name).is_some_and(|link| attached.contains(&link));
            if !is_used {
                tracing::info!("{}: not attached there any more", links.join(&name).display());
                remove::link(&links.join(&name))?;
            }
        }
        let old = |name: &String| layout::is_name(name) && *name != held.layout;
        for name in names(&held.root)?.iter().filter(|name| old(name)) {
            remove::layout(&held.root.join(name))?;
            tracing::info!("{}: removed, the maps of another layout", held.root.join(name).display());
        }
        held.is_settled = true;
        if !held.keep {
            remove::unpin_all(&held.root)?;
            tracing::info!("{}: nothing is pinned any more (sensor.persist = false)", held.root.display());
            self.held = None;
        }
        Ok(())
    }
}

impl Held {
    fn link(&self, kind: LinkKind, index: u32) -> PathBuf {
        self.lock.place().join(LINKS).join(kind.name(index))
    }
}

impl Drop for Held {
    /// If the agent could not start and found nothing pinned, it leaves nothing.
    fn drop(&mut self) {
        if self.is_fresh
            && !self.is_settled
            && let Err(error) = remove::unpin_all(&self.root)
        {
            tracing::warn!("{error}");
        }
    }
}
