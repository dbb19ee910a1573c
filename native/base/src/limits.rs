//! Sizes and limits shared by both ends of every wire and by every file on disk.

/// Bytes of a chunk; a file's byte `offset` lies in its chunk `offset / CHUNK_BYTES`.
pub const CHUNK_BYTES: u64 = 64 << 20;
/// The checksummed unit within a chunk.
pub const BLOCK_BYTES: usize = 4096;
/// Blocks per chunk.
pub const BLOCKS_PER_CHUNK: usize = CHUNK_BYTES as usize / BLOCK_BYTES;
/// Largest data payload of one frame: one kernel FUSE request.
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;
/// Largest protobuf message of one frame (an inventory part, a batch, a directory page).
pub const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Longest name of one directory entry. Source: NAME_MAX.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest path or symlink target, without the NUL. Source: PATH_MAX.
pub const MAX_PATH_BYTES: usize = 4095;
/// Most symlinks followed in one resolution. Source: path_resolution(7).
pub const MAX_SYMLINKS: usize = 40;
/// Most names of one file. Source: LINK_MAX of ext4.
pub const MAX_LINKS: u32 = 65_000;
/// Default for how many bytes of a small file lie in its inode.
pub const INLINE_LIMIT_BYTES: u32 = 8192;
/// And the most: a batch of such writes must still fit in frames.
pub const MAX_INLINE_BYTES: u32 = 64 << 10;
/// Longest whole name of an extended attribute. Source: XATTR_NAME_MAX.
pub const MAX_XATTR_NAME_BYTES: usize = 255;
/// Largest value of one. Source: XATTR_SIZE_MAX.
pub const MAX_XATTR_BYTES: usize = 64 << 10;
/// Names and values of one inode together.
pub const MAX_XATTRS_BYTES: usize = 256 << 10;
/// Most inodes of one `Accessed`.
pub const MAX_ACCESSED: usize = 4096;
/// Largest file: chunk indexes fit in 26 bits.
pub const MAX_FILE_BYTES: u64 = 1 << 52;
