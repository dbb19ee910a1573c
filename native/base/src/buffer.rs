//! Aligned, reused buffers: what O_DIRECT needs, and what spares the first touch of fresh pages.
//! Invariants: `len <= capacity`; every byte below `len` is initialised; a buffer returns to its pool when dropped.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use crate::limits::{BLOCK_BYTES, MAX_PAYLOAD_BYTES};

/// Alignment of every buffer: a page, and the largest logical block of common disks.
pub const ALIGN_BYTES: usize = BLOCK_BYTES;
const TINY_BYTES: usize = BLOCK_BYTES;
const SMALL_BYTES: usize = 64 << 10;
/// Large enough for 1 MiB at any offset, rounded out to whole blocks.
const LARGE_BYTES: usize = MAX_PAYLOAD_BYTES + 2 * BLOCK_BYTES;
/// Sizes of pooled buffers, and how many idle ones of each are kept: 4 MiB of tiny and small ones, 48 MiB of large ones. More
/// would hide memory, fewer would touch fresh pages again.
const SIZES: [(usize, usize); 3] = [(TINY_BYTES, 1024), (SMALL_BYTES, 64), (LARGE_BYTES, 48)];

struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` owns its allocation; nothing else points into it.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads through `&Buffer`.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(capacity: usize) -> Memory {
        let layout = Layout::from_size_align(capacity, ALIGN_BYTES).expect("buffer sizes are far below isize::MAX");
        // SAFETY: the layout has a size above zero (capacities are rounded up to a block).
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Memory { start, capacity }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let layout = Layout::from_size_align(self.capacity, ALIGN_BYTES).expect("as at allocation");
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.start.as_ptr(), layout) }
    }
}

/// One for each of `SIZES`.
#[derive(Default)]
struct Shelves([Vec<Memory>; SIZES.len()]);

/// Where buffers come from and go back to. Cloning shares the pool.
#[derive(Clone, Default)]
pub struct BufferPool(Arc<Mutex<Shelves>>);

static GLOBAL: LazyLock<BufferPool> = LazyLock::new(BufferPool::default);

impl BufferPool {
    /// The process's pool.
    pub fn global() -> &'static BufferPool {
        &GLOBAL
    }

    /// A buffer of `len` bytes with unspecified but initialised content (zeros or old data of this process).
    pub fn take(&self, len: usize) -> Buffer {
        let size = SIZES.iter().position(|(size, _)| len <= *size);
        let kept = size.and_then(|size| self.0.lock().0[size].pop());
        let memory = kept.unwrap_or_else(|| Memory::new(Buffer::capacity_for(len)));
        Buffer { memory: Some(memory), len, pool: self.clone() }
    }

    /// A buffer of `len` zeros.
    pub fn take_zeroed(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0);
        buffer
    }

    fn give_back(&self, memory: Memory) {
        let Some(size) = SIZES.iter().position(|(size, _)| memory.capacity == *size) else { return };
        let mut shelves = self.0.lock();
        if shelves.0[size].len() < SIZES[size].1 {
            shelves.0[size].push(memory);
        }
    }
}

/// Bytes aligned to 4 KiB. Dereferences to `[u8]`.
pub struct Buffer {
    memory: Option<Memory>,
    len: usize,
    pool: BufferPool,
}

impl Buffer {
    /// From the process's pool.
    pub fn take(len: usize) -> Buffer {
        BufferPool::global().take(len)
    }

    pub fn zeroed(len: usize) -> Buffer {
        BufferPool::global().take_zeroed(len)
    }

    pub fn copy_of(data: &[u8]) -> Buffer {
        let mut buffer = Buffer::take(data.len());
        buffer.copy_from_slice(data);
        buffer
    }

    /// Memory that a buffer of `len` bytes takes.
    pub fn capacity_for(len: usize) -> usize {
        let size = SIZES.iter().find(|(size, _)| len <= *size);
        size.map_or(len.next_multiple_of(ALIGN_BYTES), |(size, _)| *size)
    }

    pub fn capacity(&self) -> usize {
        self.memory().capacity
    }

    /// Change the length within the capacity; bytes that come into view are initialised but unspecified.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "length {len} beyond the buffer's capacity {}", self.capacity());
        self.len = len;
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("present until drop")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len <= capacity`, and the memory was zeroed at allocation, so every byte is initialised.
        unsafe { std::slice::from_raw_parts(self.memory().start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.memory().start.as_ptr(), self.len) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_comes_back_to_its_pool() {
        let pool = BufferPool::default();
        let first = pool.take(5000);
        let address = first.as_ptr();
        assert_eq!(address as usize % ALIGN_BYTES, 0);
        drop(first);
        assert_eq!(pool.take(5100).as_ptr(), address);
        assert_ne!(pool.take(100).as_ptr(), address, "small ones do not take large ones away");
    }

    #[test]
    fn a_huge_buffer_is_not_kept() {
        let pool = BufferPool::default();
        drop(pool.take(LARGE_BYTES + 1));
        assert!(pool.0.lock().0.iter().all(Vec::is_empty));
    }
}
