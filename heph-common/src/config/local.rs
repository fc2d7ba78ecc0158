//! `cache` and `memCache`: the local store and its tier in memory.

use super::layer::{choice, section};
use crate::ByteSize;

section! {
    /// `cache`: the store on disk. Acts per home.
    Cache from CacheLayer {
        /// `spillThresholdBytes`: artifacts of targets that are larger are plain files; smaller ones lie in the index.
        spill_threshold: ByteSize = "spillThresholdBytes", ByteSize::kib(64);
        /// `maxSizeBytes`: limit of the store; unset, the lesser of 10 GiB and a tenth of the disk.
        max_size: Option<ByteSize> = "maxSizeBytes", None;
        /// `link`: hard links into user trees.
        link: Link = "link", Link::Auto;
    }
}

choice! {
    /// `cache.link`: whether files of the store are hard-linked into user trees.
    Link {
        /// Never: reflink, else copy.
        Never = "never",
        /// Where consumers of the files replace them instead of rewriting them.
        Auto = "auto",
        /// Wherever the file system allows.
        Always = "always",
    }
}

section! {
    /// `memCache`: what is kept in memory. Acts per home.
    MemCache from MemCacheLayer {
        /// `perEntryBytes`: largest single entry that is kept.
        per_entry: ByteSize = "perEntryBytes", ByteSize::kib(16);
        /// `capacityBytes`: all entries together; 0 turns the tier off.
        capacity: ByteSize = "capacityBytes", ByteSize::mib(64);
    }
}
