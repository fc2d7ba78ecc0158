//! The few fields of an ELF file that decide which other files the loader will open.
//!
//! Source: the System V ABI, chapters 4 and 5 (object files, dynamic linking). Every offset and length in the file
//! is distrusted: what lies outside of it makes the file [malformed](ElfError), never a panic or a large allocation.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// What the loader needs to know of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// For whom it was made.
    pub kind: Kind,
    /// PT_INTERP: the loader of a program.
    pub interpreter: Option<String>,
    /// DT_NEEDED in order.
    pub needed: Vec<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// Directories of DT_RPATH; none where there is a DT_RUNPATH.
    pub rpath: Vec<String>,
    /// Directories of DT_RUNPATH; `None` where there is none.
    pub runpath: Option<Vec<String>>,
    /// DF_1_NODEFLIB: neither the cache nor the default directories are searched for it.
    pub no_default: bool,
}

/// Class, byte order and machine: objects of different kinds cannot be loaded together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Whether addresses have 64 bits.
    pub wide: bool,
    /// Whether it is big-endian.
    pub big: bool,
    /// `e_machine`.
    pub machine: u16,
}

/// It begins like an ELF file but is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed ELF file: {0}")]
pub struct ElfError(&'static str);

/// Bytes at an offset. Fewer than asked for is [`None`].
pub trait Bytes {
    /// Exactly `length` bytes at `offset`.
    fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>>;
    /// At most `length` bytes at `offset`.
    fn up_to(&self, offset: u64, length: usize) -> Vec<u8>;
}

impl Bytes for [u8] {
    fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let offset = usize::try_from(offset).ok()?;
        self.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
    }

    fn up_to(&self, offset: u64, length: usize) -> Vec<u8> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = offset.saturating_add(length).min(self.len());
        self.get(offset..end).unwrap_or_default().to_vec()
    }
}

impl Bytes for File {
    fn bytes(&self, offset: u64, length: usize) -> Option<Vec<u8>> {
        let found = self.up_to(offset, length);
        (found.len() == length).then_some(found)
    }

    fn up_to(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_SONAME: u64 = 14;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NODEFLIB: u64 = 0x800;

/// More than any real object has, and little enough to read.
const PROGRAM_HEADERS_LIMIT: usize = 4096;
const DYNAMIC_LIMIT: u64 = 1 << 20;
const NAME_LIMIT: usize = 4096;
const NAMES_LIMIT: usize = 4096;

impl Elf {
    /// Reads an object; `None` if the file is no ELF file at all.
    pub fn parse(file: &(impl Bytes + ?Sized)) -> Result<Option<Self>, ElfError> {
        let Some(identification) = file.bytes(0, 16).filter(|bytes| bytes.starts_with(b"\x7fELF")) else {
            return Ok(None);
        };
        let wide = match identification.get(4) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(ElfError("unknown class")),
        };
        let big = match identification.get(5) {
            Some(1) => false,
            Some(2) => true,
            _ => return Err(ElfError("unknown byte order")),
        };
        let mut kind = Kind {
            wide,
            big,
            machine: 0,
        };
        let header = file
            .bytes(0, if kind.wide { 64 } else { 52 })
            .ok_or(ElfError("cut in its header"))?;
        let header = Fields { bytes: &header, kind };
        kind.machine = header.half(18).ok_or(ElfError("cut in its header"))?;
        let segments = segments(file, &header)?;
        let mut elf = Self {
            kind,
            ..Self::default()
        };
        if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
            let text = name_at(file, segment.offset, segment.file_size);
            elf.interpreter = Some(text.ok_or(ElfError("its interpreter has no name"))?);
        }
        if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
            elf.read_dynamic(file, segment, &segments)?;
        }
        Ok(Some(elf))
    }

    fn read_dynamic(
        &mut self,
        file: &(impl Bytes + ?Sized),
        segment: &Segment,
        segments: &[Segment],
    ) -> Result<(), ElfError> {
        let kind = self.kind;
        let size = segment.file_size.min(DYNAMIC_LIMIT);
        let table = file.up_to(segment.offset, usize::try_from(size).unwrap_or_default());
        let entry = if kind.wide { 16 } else { 8 };
        let entries: Vec<(u64, u64)> = table
            .chunks_exact(entry)
            .map_while(|bytes| {
                let fields = Fields { bytes, kind };
                let tag = fields.word(0)?;
                (tag != DT_NULL).then_some((tag, fields.word(entry / 2)?))
            })
            .collect();
        let value = |tag| {
            entries
                .iter()
                .find(|(found, _)| *found == tag)
                .map(|(_, value)| *value)
        };
        let Some(strings) = value(DT_STRTAB) else {
            return Ok(());
        };
        let length = value(DT_STRSZ).unwrap_or_default();
        let start = segments
            .iter()
            .filter(|segment| segment.kind == PT_LOAD)
            .find_map(|segment| {
                let within = strings.checked_sub(segment.address)?;
                (within < segment.file_size).then(|| segment.offset.checked_add(within))?
            })
            .ok_or(ElfError("its string table is not loaded"))?;
        let name = |offset: u64| {
            let rest = length.checked_sub(offset)?;
            name_at(file, start.checked_add(offset)?, rest)
        };
        let missing = ElfError("a name lies outside its string table");
        let paths = |offset| -> Result<Vec<String>, ElfError> {
            let text = name(offset).ok_or(missing)?;
            Ok(text
                .split(':')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect())
        };
        let mut seen = BTreeSet::new();
        for (tag, value) in &entries {
            match *tag {
                DT_NEEDED if self.needed.len() < NAMES_LIMIT => {
                    let needed = name(*value).ok_or(missing)?;
                    if seen.insert(needed.clone()) {
                        self.needed.push(needed);
                    }
                }
                DT_SONAME => self.soname = Some(name(*value).ok_or(missing)?),
                DT_RPATH => self.rpath = paths(*value)?,
                DT_RUNPATH => self.runpath = Some(paths(*value)?),
                DT_FLAGS_1 => self.no_default = value & DF_1_NODEFLIB != 0,
                _ => {}
            }
        }
        if self.runpath.is_some() {
            self.rpath.clear();
        }
        Ok(())
    }
}

/// One program header.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

fn segments(file: &(impl Bytes + ?Sized), header: &Fields<'_>) -> Result<Vec<Segment>, ElfError> {
    let cut = ElfError("cut in its program headers");
    let wide = header.kind.wide;
    let (table, size, count) = match wide {
        true => (header.word(32), header.half(54), header.half(56)),
        false => (header.word(28), header.half(42), header.half(44)),
    };
    let (table, size, count) = (
        table.ok_or(cut)?,
        usize::from(size.ok_or(cut)?),
        usize::from(count.ok_or(cut)?),
    );
    if table == 0 || count == 0 {
        return Ok(Vec::new());
    }
    if size < if wide { 56 } else { 32 } || count > PROGRAM_HEADERS_LIMIT {
        return Err(ElfError("odd program headers"));
    }
    let bytes = file.bytes(table, size.saturating_mul(count)).ok_or(cut)?;
    let segments = bytes.chunks_exact(size).map(|bytes| {
        let fields = Fields {
            bytes,
            kind: header.kind,
        };
        let places = if wide { (8, 16, 32) } else { (4, 8, 16) };
        Some(Segment {
            kind: fields.int(0)?,
            offset: fields.word(places.0)?,
            address: fields.word(places.1)?,
            file_size: fields.word(places.2)?,
        })
    });
    segments.collect::<Option<_>>().ok_or(cut)
}

/// A text that ends with a zero byte, within the next `rest` bytes.
fn name_at(file: &(impl Bytes + ?Sized), offset: u64, rest: u64) -> Option<String> {
    // Names are short: most are found with the first read.
    for length in [128, NAME_LIMIT] {
        let length = length.min(usize::try_from(rest).unwrap_or(usize::MAX));
        let bytes = file.up_to(offset, length);
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            return String::from_utf8(bytes.get(..end)?.to_vec()).ok();
        }
    }
    None
}

/// Numbers at places of a structure.
struct Fields<'a> {
    bytes: &'a [u8],
    kind: Kind,
}

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()?;
        if self.kind.big {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn half(&self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn int(&self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// 64 bits in a wide file, else 32.
    fn word(&self, at: usize) -> Option<u64> {
        match self.kind.wide {
            true => self.array(at).map(u64::from_le_bytes),
            false => self.int(at).map(u64::from),
        }
    }
}
