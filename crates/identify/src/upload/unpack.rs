//! Unpacking, with a bound on what comes out and on the memory that it takes: a few bytes can stand for any number.

use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use super::{NotMeasured, broken};

/// No package holds more, unpacked.
const MAX_UNPACKED: u64 = 4 << 30;
/// What unpacking may look back on, in KiB: `xz -9` wants 64 MiB, `zstd --ultra` 128 MiB.
const MAX_MEMORY: u32 = 160 << 10;

/// How something is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

impl Packing {
    /// By the end of a name, such as `.xz`.
    pub(super) fn of_suffix(suffix: &str) -> Option<Self> {
        match suffix {
            "" => Some(Self::None),
            ".gz" => Some(Self::Gzip),
            ".xz" => Some(Self::Xz),
            ".zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// By the name that rpm gives it.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        match name {
            "gzip" => Some(Self::Gzip),
            "xz" => Some(Self::Xz),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What is packed in there.
    pub(super) fn unpack<'a>(
        self,
        packed: impl Read + 'a,
    ) -> Result<Bounded<Box<dyn Read + 'a>>, NotMeasured> {
        let packed = BufReader::with_capacity(64 << 10, packed);
        let inner: Box<dyn Read + 'a> = match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(MultiGzDecoder::new(packed)),
            Self::Xz => Box::new(XzReader::new_mem_limit(packed, true, MAX_MEMORY)),
            Self::Zstd => {
                let most = u64::from(MAX_MEMORY) << 10;
                let unpacking = StreamingDecoder::new_with_max_window_size(packed, most);
                Box::new(
                    unpacking.map_err(|_| broken("its contents are packed in a way that cannot be read"))?,
                )
            }
        };
        Ok(Bounded { inner, left: MAX_UNPACKED })
    }
}

/// A reader that gives up when too much comes out.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(length)
    }
}

/// Why reading what is packed failed. What the unpackers say may hold names from inside, and is not passed on.
pub(super) fn not_unpacked(error: io::Error) -> NotMeasured {
    match error.kind() {
        io::ErrorKind::FileTooLarge => {
            broken(format_args!("it holds more than {} GB, unpacked", MAX_UNPACKED >> 30))
        }
        io::ErrorKind::UnexpectedEof => broken("it ends before all that it holds was read"),
        io::ErrorKind::OutOfMemory => broken("its contents take too much memory to unpack"),
        _ => broken("its contents cannot be unpacked: they are broken, or packed in a way that is not known"),
    }
}
