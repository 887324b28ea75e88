//! How a starting agent treats the pins that it finds: it uses them, copies from them, or begins anew.

use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use aya::Ebpf;

use super::{
    super::settings::Settings,
    LINKS, Pins, PinsError, bpffs,
    inherit::Inherited,
    layout::{self, Layout},
    links::Held,
    lock,
    meta::{Meta, MetaMap},
    names, remove,
};
use crate::clock::monotonic;

/// The pins that were found before anything was loaded. Nothing has changed yet, except that the directory exists and
/// is locked.
pub struct Plan {
    layout: Layout,
    ipv6_prefix: u8,
    salt: u64,
    found: Found,
    held: Option<Held>,
}

/// The pins that were found.
enum Found {
    Nothing,
    /// Maps of exactly this layout.
    Same(MetaMap),
    /// Maps of another layout, and the notes about them.
    Other {
        directory: PathBuf,
        meta: Option<MetaMap>,
    },
}

/// The objects that were taken over.
pub struct Taken {
    pub(in crate::sensor) pins: Pins,
    pub(in crate::sensor) meta: Option<MetaMap>,
    /// The entries that were copied from maps of another layout, for the new maps.
    pub(in crate::sensor) inherited: Option<Inherited>,
    /// When an earlier agent last read the table of sources, if that table is used further.
    pub(in crate::sensor) polled: Option<Duration>,
    /// Which epoch was running then.
    pub(in crate::sensor) stopped: Option<u32>,
}

impl Plan {
    /// Looks at the pins, if there are any, and locks them.
    ///
    /// # Errors
    /// They cannot be used; the error says what to do. Attached programs stay as they are.
    pub fn new(settings: &Settings) -> Result<Self, PinsError> {
        let mut plan = Self {
            layout: Layout::of(settings)?,
            ipv6_prefix: settings.ipv6_prefix,
            salt: RandomState::new().hash_one("scanguard"),
            found: Found::Nothing,
            held: None,
        };
        let root = &settings.pin;
        if settings.persist {
            bpffs::check(root)?;
            fs::create_dir_all(root).map_err(PinsError::io("making", root))?;
        } else if !root.exists() || bpffs::check(root).is_err() || !has_pins(root)? {
            return Ok(plan);
        }
        let lock = match lock::lock(root) {
            Err(PinsError::Held { path, holder }) if !settings.persist => {
                tracing::info!("{} is in use by another agent{}", path.display(), lock::said(holder));
                return Ok(plan);
            }
            lock => lock?,
        };
        let is_fresh = !has_pins(root)?;
        if let Some(name) = names(root)?.iter().find(|name| settings.persist && !is_ours(name)) {
            return Err(PinsError::Foreign { path: root.join(name) });
        }
        plan.found = found(root, &plan.layout)?;
        if let Found::Same(meta) = &plan.found {
            plan.salt = meta.value().salt;
        }
        plan.held = Some(Held {
            root: root.clone(),
            layout: plan.layout.name.clone(),
            keep: settings.persist,
            is_fresh,
            is_settled: false,
            lock,
        });
        Ok(plan)
    }

    /// The salt for the program. If maps are used further, it is their old salt.
    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// Pinned maps that the program uses in place of new ones, by name.
    pub fn reused(&self) -> Vec<(String, PathBuf)> {
        match (&self.found, &self.held) {
            (Found::Same(_), Some(held)) => self.layout.pins(&held.root.join(&held.layout)),
            (Found::Nothing | Found::Other { .. }, _) | (Found::Same(_), None) => Vec::new(),
        }
    }

    /// Called after the program was loaded. Pins its new maps, if they should be pinned, and reads what is copied into
    /// them. The attached program and its maps stay as they were.
    ///
    /// # Errors
    /// Old maps could not be read, or new ones could not be pinned.
    pub fn commit(self, ebpf: &Ebpf) -> Result<Taken, PinsError> {
        let Self { layout, ipv6_prefix, salt, found, held } = self;
        let keep = held.as_ref().filter(|held| held.keep);
        let mut taken =
            Taken { pins: Pins { held: None }, meta: None, inherited: None, polled: None, stopped: None };
        let mut meta = Meta::new(ipv6_prefix, salt);
        match found {
            Found::Same(mut old) => {
                tracing::info!("using the pinned maps on: {}", layout.name);
                let polled = old.value().polled_ns;
                taken.polled = (polled != 0).then(|| Duration::from_nanos(polled));
                let stopped = old.value().stopped;
                taken.stopped = (stopped != 0).then_some(stopped);
                old.note_namespace();
                taken.meta = keep.is_some().then_some(old);
                taken.pins.held = held;
                return Ok(taken);
            }
            Found::Other { directory, meta: old } => {
                let inherited = old.map(|old| Inherited::read(&directory, &old)).transpose()?;
                let inherited = inherited.unwrap_or_else(|| {
                    tracing::warn!("{}: of a version that is not known to this one", directory.display());
                    Inherited::default()
                });
                (meta.gate, meta.drop_all) = (inherited.gate, inherited.drop_all);
                tracing::info!(
                    bans = inherited.bans.len(),
                    allowed = inherited.allowed.len(),
                    "the pinned maps are of another layout: bans and the allow list go over to new ones, \
                     counters begin anew: {}",
                    directory.display()
                );
                taken.inherited = Some(inherited);
            }
            Found::Nothing => {}
        }
        if let Some(held) = keep {
            meta.polled_ns = u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX);
            taken.meta = Some(pin(&layout, &held.root, ebpf, meta)?);
        }
        taken.pins.held = held;
        Ok(taken)
    }
}

impl Taken {
    /// The pinned links, for the code that attaches.
    pub fn into_pins(self) -> Pins {
        self.pins
    }
}

fn is_ours(name: &str) -> bool {
    name == LINKS || layout::is_name(name)
}

fn has_pins(root: &Path) -> Result<bool, PinsError> {
    Ok(names(root)?.iter().any(|name| is_ours(name)))
}

/// The complete layout that was used last. If an agent ended while it was starting, its layout is not complete.
fn found(root: &Path, layout: &Layout) -> Result<Found, PinsError> {
    let mut newest: Option<(u64, String, Option<MetaMap>)> = None;
    for name in names(root)?.into_iter().filter(|name| layout::is_name(name)) {
        let directory = root.join(&name);
        if !directory.join(super::meta::NAME).exists() {
            continue;
        }
        let meta = MetaMap::open(&directory)?;
        let polled = meta.as_ref().map_or(0, |meta| meta.value().polled_ns);
        if newest.as_ref().is_none_or(|(at, ..)| *at <= polled) {
            newest = Some((polled, name, meta));
        }
    }
    Ok(match newest {
        None => Found::Nothing,
        Some((_, name, meta)) if name == layout.name => {
            let directory = root.join(name);
            layout.check(&directory, root)?;
            Found::Same(meta.ok_or_else(|| PinsError::Corrupt {
                path: directory.join(super::meta::NAME),
                wanted: "the data that an agent leaves to the next one".to_owned(),
                root: root.to_owned(),
            })?)
        }
        Some((_, name, meta)) => Found::Other { directory: root.join(name), meta },
    })
}

/// Pins the maps of a loaded program.
fn pin(layout: &Layout, root: &Path, ebpf: &Ebpf, meta: Meta) -> Result<MetaMap, PinsError> {
    let directory = root.join(&layout.name);
    if directory.exists() {
        remove::layout(&directory)?;
    }
    let links = root.join(LINKS);
    for path in [&links, &directory] {
        fs::create_dir_all(path).map_err(PinsError::io("making", path))?;
    }
    for (name, path) in layout.pins(&directory) {
        let map = ebpf.map(&name).ok_or_else(|| PinsError::Object(format!("it has no map {name}")))?;
        map.pin(&path).map_err(|error| PinsError::map(&path, &error))?;
    }
    MetaMap::create(&directory, meta)
}
