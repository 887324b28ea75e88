//! Removes pins.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    LINKS, LinkKind, PinsError,
    bpffs::{self, Pinned},
    layout, lock, meta, names, namespace,
};

/// The objects that were removed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    /// Detached links: their program, and the index of their interface; 0 if the interface was gone.
    pub links: Vec<(&'static str, u32)>,
    /// Whether the indexes belong to this network namespace.
    pub is_own_namespace: bool,
    /// Layouts whose maps were removed.
    pub layouts: Vec<String>,
    /// The entries of the directory that ScanGuard did not pin.
    pub left: Vec<PathBuf>,
}

impl Removed {
    /// Whether there was nothing at all.
    pub fn is_nothing(&self) -> bool {
        self.links.is_empty() && self.layouts.is_empty() && self.left.is_empty()
    }
}

/// Detaches all programs whose links are pinned in a directory, and removes the maps and the directory itself. Files
/// of others stay.
///
/// # Errors
/// The directory is not on a BPF file system, a running agent uses it, or something could not be removed.
pub fn detach(root: &Path) -> Result<Removed, PinsError> {
    let mut removed = Removed::default();
    if !root.exists() {
        return Ok(removed);
    }
    // A name alone does not make a pin: elsewhere it may be somebody's file.
    bpffs::check(root)?;
    let _lock = lock::lock(root)?;
    removed.is_own_namespace = namespace::is_own(root);
    let links = root.join(LINKS);
    for name in names(&links)? {
        match LinkKind::of_name(&name) {
            Some((kind, _)) => removed.links.push((kind.label(), link(&links.join(name))?)),
            None => removed.left.push(links.join(name)),
        }
    }
    for name in names(root)? {
        if layout::is_name(&name) {
            layout(&root.join(&name))?;
            removed.layouts.push(name);
        } else if name != LINKS {
            removed.left.push(root.join(name));
        }
    }
    if removed.left.is_empty() {
        directory(&links)?;
        directory(root)?;
    }
    Ok(removed)
}

/// Removes all pins. An attached program stays as long as somebody has its link open.
pub(super) fn unpin_all(root: &Path) -> Result<(), PinsError> {
    let links = root.join(LINKS);
    for name in names(&links)?.iter().filter(|name| LinkKind::of_name(name).is_some()) {
        file(&links.join(name))?;
    }
    for name in names(root)?.iter().filter(|name| layout::is_name(name)) {
        layout(&root.join(name))?;
    }
    if names(&links)?.is_empty() {
        directory(&links)?;
    }
    if names(root)?.is_empty() {
        directory(root)?;
    }
    Ok(())
}

/// Detaches a link and removes its pin. Returns the index of its interface; 0 if that is gone or never was there.
pub(super) fn link(path: &Path) -> Result<u32, PinsError> {
    let mut index = 0;
    if let Ok((link, Pinned::Link { interface, .. })) = bpffs::open(path) {
        index = interface;
        match bpffs::detach(&link) {
            Ok(()) => {}
            // Its interface is gone.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
            // The last descriptor is closed a moment later anyway.
            Err(error) => tracing::debug!("{}: BPF_LINK_DETACH: {error}", path.display()),
        }
    }
    file(path)?;
    Ok(index)
}

/// Removes the maps of a layout. The pin that marks the layout as complete goes first.
pub(super) fn layout(path: &Path) -> Result<(), PinsError> {
    let meta = path.join(meta::NAME);
    if meta.exists() {
        file(&meta)?;
    }
    for name in names(path)? {
        file(&path.join(name))?;
    }
    directory(path)
}

fn file(path: &Path) -> Result<(), PinsError> {
    fs::remove_file(path).map_err(PinsError::io("removing", path))
}

/// An empty directory may stay where the agent's user may not change the directory above it, such as /sys/fs/bpf.
fn directory(path: &Path) -> Result<(), PinsError> {
    match fs::remove_dir(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EBUSY)) => {
            tracing::debug!("{}: the empty directory stays: {error}", path.display());
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PinsError::io("removing", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_called_like_pins_are_no_pins() {
        let root = std::env::temp_dir().join(format!("scanguard-detach-{}", std::process::id()));
        let links = root.join(LINKS);
        fs::create_dir_all(&links).unwrap();
        let file = links.join(LinkKind::Xdp.name(3));
        fs::write(&file, "a file").unwrap();
        let refused = detach(&root);
        let kept = file.exists();
        fs::remove_dir_all(&root).unwrap();
        assert!(matches!(refused, Err(PinsError::NotBpffs { .. })), "{refused:?}");
        assert!(kept, "it was deleted");
    }
}
