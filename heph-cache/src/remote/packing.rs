//! Contents on their way to and from a remote cache: compressed where that pays, and proved when they arrive.

use std::fs::File;
use std::io::{self, Read, Write};

use heph_common::Digest;
use zstd::stream::write::Decoder;

/// Contents of at most so many bytes are sent and received in memory; larger ones as streams, by way of files.
pub const SMALL: u64 = 256 * 1024;

/// Contents of fewer bytes are not compressed.
const SMALLEST: usize = 512;

/// A compressed sample that is no smaller than this share of it, in percent, says that compressing does not pay.
const PAYS: usize = 90;

/// Bytes that are tried.
const SAMPLE: usize = 128 * 1024;

/// zstd's level: twice as fast as 3's successor, and within some percent of it.
const LEVEL: i32 = 3;

/// The largest window in bits that is accepted: what [`LEVEL`] writes needs 2 MiB, hostile content would ask for 128 MiB.
const LARGEST_WINDOW: u32 = 23;

/// Whether a content is kept compressed: all writers come to the same answer, from its first bytes.
pub fn pays(beginning: &[u8]) -> bool {
    let sample = beginning.get(..SAMPLE).unwrap_or(beginning);
    sample.len() >= SMALLEST
        && zstd::bulk::compress(sample, 1).is_ok_and(|packed| packed.len() * 100 < sample.len() * PAYS)
}

/// Whether that holds for a file, from where it stands to its end.
///
/// # Errors
/// Those of reading.
pub fn pays_for_file(file: &File) -> io::Result<bool> {
    let mut sample = Vec::with_capacity(SAMPLE);
    file.take(SAMPLE as u64).read_to_end(&mut sample)?;
    Ok(pays(&sample))
}

/// The compressed form of bytes.
///
/// # Errors
/// When there is no memory.
pub fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL)
}

/// Writes the compressed form of a file to another one; its length in bytes.
///
/// # Errors
/// Those of reading and writing.
pub fn compress_file(from: &mut File, to: &mut File) -> io::Result<u64> {
    let mut encoder = zstd::stream::write::Encoder::new(Counted { to, written: 0 }, LEVEL)?;
    io::copy(from, &mut encoder)?;
    Ok(encoder.finish()?.written)
}

struct Counted<'a> {
    to: &'a mut File,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Takes the bytes of one object and proves that they are a certain content. Nothing beyond the content's size is kept.
pub struct Intake<W: Write> {
    digest: Digest,
    size: u64,
    unpacking: Unpacking<W>,
}

enum Unpacking<W: Write> {
    Plain(Box<Checked<W>>),
    Zstd(Box<Decoder<'static, Checked<W>>>),
}

struct Checked<W> {
    to: W,
    hasher: blake3::Hasher,
    left: u64,
}

impl<W: Write> Write for Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            return Err(io::Error::other("it is longer than announced"));
        };
        self.to.write_all(bytes)?;
        self.hasher.update(bytes);
        self.left = left;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> Intake<W> {
    /// For the content of a digest and a size in bytes; `compressed`: its object is.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn new(digest: Digest, size: u64, compressed: bool, to: W) -> io::Result<Self> {
        let checked = Checked {
            to,
            hasher: blake3::Hasher::new(),
            left: size,
        };
        let unpacking = if compressed {
            let mut decoder = Decoder::new(checked)?;
            decoder.window_log_max(LARGEST_WINDOW)?;
            Unpacking::Zstd(Box::new(decoder))
        } else {
            Unpacking::Plain(Box::new(checked))
        };
        Ok(Self {
            digest,
            size,
            unpacking,
        })
    }

    /// Takes the next bytes of the object.
    ///
    /// # Errors
    /// When they cannot be unpacked, are too many, or cannot be written.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.unpacking {
            Unpacking::Plain(to) => to.write_all(bytes),
            Unpacking::Zstd(to) => to.write_all(bytes),
        }
    }

    /// All has been taken: gives back what it was written to.
    ///
    /// # Errors
    /// When it is not the content.
    pub fn finish(self) -> io::Result<W> {
        let checked = match self.unpacking {
            Unpacking::Plain(checked) => *checked,
            Unpacking::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner()
            }
        };
        if checked.left > 0 {
            let found = self.size - checked.left;
            return Err(io::Error::other(format!(
                "it has {found} bytes instead of {}",
                self.size
            )));
        }
        let found: Digest = checked.hasher.finalize().into();
        match found == self.digest {
            true => Ok(checked.to),
            false => Err(io::Error::other(format!("its digest is {found}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    fn text() -> Vec<u8> {
        (0..20_000_u32)
            .flat_map(|number| number.to_string().into_bytes())
            .collect()
    }

    fn noise() -> Vec<u8> {
        let mut bytes = vec![0; 100_000];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn intake(bytes: &[u8], of: &[u8], size: usize, compressed: bool) -> io::Result<Vec<u8>> {
        let mut intake = Intake::new(Digest::of(of), size as u64, compressed, Vec::new())?;
        for chunk in bytes.chunks(1000) {
            intake.take(chunk)?;
        }
        intake.finish()
    }

    #[test]
    fn what_pays_is_compressed_and_comes_back() {
        let text = text();
        let packed = compressed(&text).unwrap();
        assert!(pays(&text) && packed.len() * 2 < text.len());
        assert_eq!(intake(&packed, &text, text.len(), true).unwrap(), text);
        assert_eq!(intake(&text, &text, text.len(), false).unwrap(), text);
        assert!(!pays(&noise()) && !pays(&text[..400]));
    }

    #[test]
    fn files_are_compressed_alike() {
        for (bytes, is_packed) in [(text(), true), (noise(), false)] {
            let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
            from.write_all(&bytes).unwrap();
            from.rewind().unwrap();
            assert_eq!(pays_for_file(&from).unwrap(), is_packed);
            from.rewind().unwrap();
            let length = compress_file(&mut from, &mut to).unwrap();
            to.rewind().unwrap();
            let mut packed = Vec::new();
            to.read_to_end(&mut packed).unwrap();
            assert_eq!(packed.len() as u64, length);
            assert_eq!(intake(&packed, &bytes, bytes.len(), true).unwrap(), bytes);
        }
    }

    #[test]
    fn nothing_but_the_content_is_accepted() {
        let text = text();
        let packed = compressed(&text).unwrap();
        assert!(intake(&text[1..], &text, text.len(), false).is_err(), "too short");
        assert!(intake(&text, &text, text.len() - 1, false).is_err(), "too long");
        assert!(
            intake(&text, b"other", text.len(), false).is_err(),
            "another digest"
        );
        assert!(
            intake(&packed[..packed.len() / 2], &text, text.len(), true).is_err(),
            "cut off"
        );
        assert!(intake(&text, &text, text.len(), true).is_err(), "not compressed");
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 19).unwrap();
        let small = vec![0; 1000];
        assert!(intake(&bomb, &small, small.len(), true).is_err(), "a bomb");
        let mut wide = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        wide.window_log(27).unwrap();
        wide.write_all(&vec![0; 100 << 20]).unwrap();
        let wide = wide.finish().unwrap();
        assert!(
            intake(&wide, &small, small.len(), true).is_err(),
            "a window of 128 MiB"
        );
    }
}
