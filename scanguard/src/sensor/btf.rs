//! Offsets of members in the structures of the running kernel, from its own description (BTF,
//! Documentation/bpf/btf.rst).
//!
//! aya emits no CO-RE relocations, and its look-up of a type by number is private. Hence this small reader.

use std::{fs, io};

/// The file in which the kernel describes itself.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// Bytes of `struct btf_type`.
const TYPE_LEN: usize = 12;
/// Bytes of `struct btf_member`.
const MEMBER_LEN: usize = 12;
/// Bytes of `struct btf_enum`.
const CONSTANT_LEN: usize = 8;
/// Kinds of types (include/uapi/linux/btf.h).
const STRUCT: u32 = 4;
/// As above.
const UNION: u32 = 5;
/// As above, with constants of 32 bits.
const ENUMERATION: u32 = 6;
/// Typedef, volatile, const, restrict, type tag: each stands for another type.
const WRAPPERS: [u32; 5] = [8, 9, 10, 11, 18];
/// How deep the reader follows members without a name, and types that stand for others. Kernels nest them far less.
const MAX_DEPTH: u32 = 16;

/// The offset of a member cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// It could not be read.
    #[error("{VMLINUX}: {0} (the kernel wants CONFIG_DEBUG_INFO_BTF)")]
    Read(#[from] io::Error),
    /// It has an unknown format.
    #[error("{VMLINUX} cannot be understood: {0}")]
    Form(&'static str),
    /// The kernel has no such structure or member.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// The types of a kernel.
pub struct Btf {
    bytes: Vec<u8>,
    /// The position of each type, by its number less one.
    types: Vec<usize>,
    /// The start and the end of the names.
    names: (usize, usize),
}

/// One type.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    kind: u32,
    members: usize,
    /// Whether the upper bits of a member's offset have the size of a bit field.
    packed: bool,
    /// Size in bytes, or the number of the type that this one stands for.
    size_or_type: u32,
}

impl Btf {
    /// Reads the types of the running kernel.
    ///
    /// # Errors
    /// There are none, or they have another format.
    pub fn of_kernel() -> Result<Self, BtfError> {
        Self::parse(fs::read(VMLINUX)?)
    }

    /// Reads the types from these bytes.
    ///
    /// # Errors
    /// They have another format.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let word = |at| u32_at(&bytes, at).ok_or(BtfError::Form("it ends within its header"));
        if word(0)? & 0xffff != u32::from(MAGIC) {
            return Err(BtfError::Form("it does not begin with the magic number, or has another byte order"));
        }
        let header_len = word(4)? as usize;
        let section = |place: usize| -> Result<(usize, usize), BtfError> {
            let start = header_len.saturating_add(word(place)? as usize);
            let end = start.saturating_add(word(place + 4)? as usize);
            if end > bytes.len() {
                return Err(BtfError::Form("it ends before its last section"));
            }
            Ok((start, end))
        };
        let (mut at, end) = section(8)?;
        let names = section(16)?;
        let mut types = Vec::new();
        while at < end {
            let described = type_at(&bytes, at).ok_or(BtfError::Form("it ends within a type"))?;
            let rest =
                rest_len(&described).ok_or(BtfError::Form("it has a kind of type that is not known"))?;
            types.push(at);
            at += TYPE_LEN + rest;
        }
        Ok(Self { bytes, types, names })
    }

    /// The offset of a member in bytes from the start of a structure, by its path: `structure.member.member`. Members
    /// of structures and unions without a name are members of the structure around them.
    ///
    /// # Errors
    /// There is no such structure, or no such member.
    pub fn offset(&self, path: &str) -> Result<u32, BtfError> {
        let bits = self.bits(path)?;
        if bits.is_multiple_of(8) { Ok(bits / 8) } else { Err(BtfError::Missing(path.to_owned())) }
    }

    /// The same offset in bits.
    ///
    /// # Errors
    /// As [`Self::offset`].
    pub fn bits(&self, path: &str) -> Result<u32, BtfError> {
        let missing = || BtfError::Missing(path.to_owned());
        let mut words = path.split('.');
        // An empty name finds nothing.
        let name = words.next().filter(|name| !name.is_empty()).ok_or_else(missing)?;
        let mut inside = self.structure(name).ok_or_else(missing)?;
        let mut bits = 0u32;
        for word in words {
            let (offset, member) = self.member(inside, word, 0).ok_or_else(missing)?;
            bits = bits.checked_add(offset).ok_or_else(missing)?;
            // The last member need not be a structure.
            inside = self.resolve(member).unwrap_or(inside);
        }
        Ok(bits)
    }

    /// The value of a constant in any enumeration.
    ///
    /// # Errors
    /// No enumeration has it.
    pub fn constant(&self, name: &str) -> Result<u32, BtfError> {
        let all = self.types.iter().filter_map(|at| type_at(&self.bytes, *at));
        let mut constants = all
            .filter(|of| of.kind == ENUMERATION)
            .flat_map(|of| (0..of.members).map(move |place| of.at + TYPE_LEN + place * CONSTANT_LEN));
        let found = constants.find(|at| self.name(*at) == Some(name.as_bytes()));
        found.and_then(|at| u32_at(&self.bytes, at + 4)).ok_or_else(|| BtfError::Missing(name.to_owned()))
    }

    /// The structure of this name, if it has members.
    fn structure(&self, name: &str) -> Option<Type> {
        let all = self.types.iter().filter_map(|at| type_at(&self.bytes, *at));
        let mut structures = all.filter(|of| of.kind == STRUCT && of.members > 0);
        structures.find(|of| self.name(of.at) == Some(name.as_bytes()))
    }

    /// The offset of a member in bits, and the number of its type.
    fn member(&self, inside: Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if ![STRUCT, UNION].contains(&inside.kind) || depth > MAX_DEPTH {
            return None;
        }
        (0..inside.members).find_map(|place| {
            let at = inside.at + TYPE_LEN + place * MEMBER_LEN;
            let (number, offset) = (u32_at(&self.bytes, at + 4)?, u32_at(&self.bytes, at + 8)?);
            let offset = if inside.packed { offset & 0x00ff_ffff } else { offset };
            let own = self.name(at)?;
            if own == name.as_bytes() {
                return Some((offset, number));
            }
            if !own.is_empty() {
                return None;
            }
            let (within, number) = self.member(self.resolve(number)?, name, depth + 1)?;
            Some((offset.checked_add(within)?, number))
        })
    }

    /// The type with this number, or the one that it stands for.
    fn resolve(&self, mut number: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let at = *self.types.get((number as usize).checked_sub(1)?)?;
            let found = type_at(&self.bytes, at)?;
            if !WRAPPERS.contains(&found.kind) {
                return Some(found);
            }
            number = found.size_or_type;
        }
        None
    }

    /// The name of a type or member, which begins here.
    fn name(&self, at: usize) -> Option<&[u8]> {
        let (start, end) = self.names;
        let from = start.checked_add(u32_at(&self.bytes, at)? as usize)?;
        self.bytes.get(from..end)?.split(|byte| *byte == 0).next()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

fn type_at(bytes: &[u8], at: usize) -> Option<Type> {
    let (info, size_or_type) = (u32_at(bytes, at + 4)?, u32_at(bytes, at + 8)?);
    Some(Type {
        at,
        kind: info >> 24 & 0x1f,
        members: (info & 0xffff) as usize,
        packed: info >> 31 == 1,
        size_or_type,
    })
}

/// How many bytes follow `struct btf_type`; nothing for an unknown kind.
fn rest_len(described: &Type) -> Option<usize> {
    match described.kind {
        // Pointer, forward declaration, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => Some(0),
        // Integer, variable, declaration tag.
        1 | 14 | 17 => Some(4),
        // Array.
        3 => Some(12),
        // Structure, union, data section, 64-bit enumeration.
        4 | 5 | 15 | 19 => Some(described.members * 12),
        // Enumeration, function prototype.
        6 | 13 => Some(described.members * 8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use scanguard_common::proof::Field;

    use super::*;

    /// `struct outer { int a; struct { union { int b; const inner c; }; }; }; struct inner { int d; int e; };
    /// enum { f = 7, g = 9 };`
    fn small() -> Vec<u8> {
        let mut names = vec![0u8];
        let mut name = |text: &str| {
            let at = u32::try_from(names.len()).unwrap();
            names.extend(text.as_bytes());
            names.push(0);
            at
        };
        let (int, outer, inner) = (name("int"), name("outer"), name("inner"));
        let [a, b, c, d, e, f, g] = ["a", "b", "c", "d", "e", "f", "g"].map(&mut name);
        let info = |kind: u32, members: u32| kind << 24 | members;
        let types: Vec<u32> = [
            vec![int, info(1, 0), 4, 32],
            vec![outer, info(4, 2), 12, a, 1, 0, 0, 3, 32],
            vec![0, info(4, 1), 8, 0, 4, 0],
            vec![0, info(5, 2), 8, b, 1, 0, c, 5, 0],
            vec![0, info(10, 0), 6],
            vec![inner, info(4, 2), 8, d, 1, 0, e, 1, 32],
            vec![0, info(6, 2), 4, f, 7, g, 9],
        ]
        .concat();
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, len(&types), len(&types), len(&names)];
        let header: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        [header, types, names].concat()
    }

    #[test]
    fn members_are_found_through_those_without_a_name_and_types_that_stand_for_others() {
        let btf = Btf::parse(small()).unwrap();
        for (path, offset) in
            [("outer.a", 0), ("outer.b", 4), ("outer.c", 4), ("outer.c.d", 4), ("outer.c.e", 8)]
        {
            assert_eq!(btf.offset(path).unwrap(), offset, "{path}");
        }
        for path in ["outer.d", "outer.x", "other.a", "outer.a.b.c", ""] {
            let error = btf.offset(path).map(|offset| offset.to_string());
            assert!(matches!(error, Err(BtfError::Missing(_))), "{path}: {error:?}");
        }
    }

    #[test]
    fn constants_are_found_by_their_name() {
        let btf = Btf::parse(small()).unwrap();
        assert_eq!((btf.constant("f").unwrap(), btf.constant("g").unwrap()), (7, 9));
        assert!(matches!(btf.constant("a"), Err(BtfError::Missing(_))));
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        for bytes in [Vec::new(), vec![0; 64], small()[..30].to_vec()] {
            assert!(matches!(Btf::parse(bytes), Err(BtfError::Form(_))));
        }
    }

    #[test]
    fn this_kernel_says_where_every_field_lies() {
        let btf = match Btf::of_kernel() {
            Err(BtfError::Read(error)) if error.kind() == io::ErrorKind::NotFound => return,
            btf => btf.unwrap(),
        };
        for field in Field::ALL {
            btf.offset(field.label()).unwrap();
        }
        assert!(btf.bits("inet_sock.transparent").is_ok() || btf.constant("INET_FLAGS_TRANSPARENT").is_ok());
        // These have been the same since Linux 2.6: the look-up of sockets compares them at once.
        assert_eq!(
            (btf.offset("sock_common.skc_daddr").unwrap(), btf.offset("sock_common.skc_num").unwrap()),
            (0, 14)
        );
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_end_the_agent(places in prop::collection::vec((0usize..200, any::<u8>()), 1..8)) {
            let mut bytes = small();
            for (place, byte) in places {
                let place = place % bytes.len();
                bytes[place] = byte;
            }
            if let Ok(btf) = Btf::parse(bytes) {
                for path in ["outer.a", "outer.c.e", "inner.d"] {
                    let _either = btf.offset(path);
                }
            }
        }
    }
}
