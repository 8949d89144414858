//! libqb's ring of chunks in shared memory, one end of it. Each end keeps the index it owns for
//! itself and only publishes it; what the other end owns is loaded once and checked. A chunk is
//! copied out before anything in it is looked at. A violation of the protocol is [`Broken`]: the
//! connection is worth nothing from there on.

use super::mapping::Mapping;
use super::sem;
use super::wire::ring_header;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Words before the payload of a chunk: its length and its state.
const CHUNK_HEADER_WORDS: u32 = 2;
/// A chunk is only written if this much would fit beyond its payload.
const MARGIN: usize = 12;

const STATE_COMMITTED: u32 = 0xa1a1_a1a1;
const STATE_ALLOCATED: u32 = 0xa110_ced0;
const STATE_CONSUMED: u32 = 0xd0d0_d0d0;

/// The other end broke the rules, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub &'static str);

/// Where a ring lies in a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Ring {
    mapping: Arc<Mapping>,
    header: usize,
    /// Where the fields from [`ring_header::REFERENCES`] on are.
    references: usize,
    data: usize,
    /// Words of the data; private, whatever the shared header says.
    words: u32,
}

impl Ring {
    /// The ring with its header and its `len` bytes of data at these offsets; `None` if `len` does
    /// not make a ring.
    pub(crate) fn new(mapping: Arc<Mapping>, header: usize, data: usize, len: usize) -> Option<Self> {
        Self::compact(mapping, header, header + ring_header::REFERENCES, data, len)
    }

    /// The same for a header without paths, whose fields from the references on are at `references`.
    pub(crate) fn compact(
        mapping: Arc<Mapping>,
        header: usize,
        references: usize,
        data: usize,
        len: usize,
    ) -> Option<Self> {
        let words = u32::try_from(len / 4).ok()?;
        (words > CHUNK_HEADER_WORDS).then_some(Self { mapping, header, references, data, words })
    }

    /// Where a field of the header is.
    fn at(&self, offset: usize) -> usize {
        match offset.checked_sub(ring_header::REFERENCES) {
            Some(behind) => self.references + behind,
            None => self.header + offset,
        }
    }

    fn field(&self, offset: usize) -> &AtomicU32 {
        self.mapping.u32(self.at(offset))
    }

    /// The semaphore that counts unread chunks.
    pub(crate) fn semaphore(&self) -> &AtomicU64 {
        self.mapping.u64(self.at(ring_header::SEMAPHORE))
    }

    /// How many ends say they use the ring.
    pub(crate) fn references(&self) -> &AtomicU32 {
        self.field(ring_header::REFERENCES)
    }

    /// What the server asks the client to respect before it sends.
    pub(crate) fn flow_control(&self) -> &AtomicU32 {
        self.field(ring_header::FLOW_CONTROL)
    }

    /// Whether a file was cut below the ring: what was read is worth nothing.
    pub(crate) fn is_cut(&self) -> bool {
        self.mapping.is_broken()
    }

    /// Tells the other end that this one is gone, as libqb does.
    pub(crate) fn close(&self) {
        self.references().store(1, Ordering::Relaxed);
        self.references().fetch_sub(1, Ordering::Release);
    }

    fn capacity(&self) -> usize {
        self.words as usize * 4
    }

    /// Whether a message of this length fits, once the ring is empty.
    pub(crate) fn holds(&self, len: usize) -> bool {
        len.checked_add(MARGIN).is_some_and(|need| need <= self.capacity())
    }

    /// The word at `index`, which wraps.
    fn word(&self, index: u32) -> &AtomicU32 {
        self.mapping.u32(self.data + (index % self.words) as usize * 4)
    }

    /// The index `words` after `index`.
    fn advance(&self, index: u32, words: u32) -> u32 {
        let sum = u64::from(index) + u64::from(words);
        (sum % u64::from(self.words)) as u32
    }

    /// The index after the chunk at `index` with `len` bytes of payload.
    fn next(&self, index: u32, len: usize) -> u32 {
        // A payload is shorter than the data, whose length fits into 32 bits.
        self.advance(index, CHUNK_HEADER_WORDS + len.div_ceil(4) as u32)
    }

    /// The pieces of `len` payload bytes, `skip` bytes into the chunk at `index`: where they are in
    /// the mapping and how long the first is, before it wraps to the start of the data.
    fn pieces(&self, index: u32, skip: usize, len: usize) -> (usize, usize) {
        let payload = self.advance(index, CHUNK_HEADER_WORDS) as usize * 4;
        let start = (payload + skip) % self.capacity();
        (self.data + start, len.min(self.capacity() - start))
    }

    fn copy_out(&self, index: u32, len: usize, bytes: &mut Vec<u8>) {
        let (start, first) = self.pieces(index, 0, len);
        bytes.clear();
        self.mapping.append(start, first, bytes);
        self.mapping.append(self.data, len - first, bytes);
    }

    fn copy_in(&self, index: u32, skip: usize, bytes: &[u8]) {
        let (start, first) = self.pieces(index, skip, bytes.len());
        let (head, tail) = bytes.split_at(first);
        self.mapping.write(start, head);
        self.mapping.write(self.data, tail);
    }
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Reader {
    ring: Ring,
    /// The oldest unread chunk. Invariant: below the ring's words.
    index: u32,
}

impl Reader {
    /// The reader of a new ring.
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring, index: 0 }
    }

    /// The ring.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Takes the next chunk, if one is announced, into `message`.
    ///
    /// # Errors
    /// If the semaphore announces what is no chunk of `least` to `most` bytes.
    pub(crate) fn take(&mut self, message: &mut Vec<u8>, least: usize, most: usize) -> Result<bool, Broken> {
        if !sem::try_take(self.ring.semaphore()) {
            return Ok(false);
        }
        self.take_announced(message, least, most)?;
        Ok(true)
    }

    /// Takes the next chunk, whose semaphore count the caller has taken.
    ///
    /// # Errors
    /// If there is no chunk of `least` to `most` bytes.
    pub(crate) fn take_announced(
        &mut self,
        message: &mut Vec<u8>,
        least: usize,
        most: usize,
    ) -> Result<(), Broken> {
        let state = self.ring.word(self.index + 1);
        if state.load(Ordering::Acquire) != STATE_COMMITTED {
            return Err(Broken("no chunk where the semaphore announced one"));
        }
        let length = self.ring.word(self.index);
        let len = length.load(Ordering::Relaxed) as usize;
        if len < least || len > most || !self.ring.holds(len) {
            return Err(Broken("length of a chunk"));
        }
        self.ring.copy_out(self.index, len, message);
        length.store(0, Ordering::Relaxed);
        state.store(STATE_CONSUMED, Ordering::Release);
        self.index = self.ring.next(self.index, len);
        self.ring.field(ring_header::READ_INDEX).store(self.index, Ordering::Release);
        Ok(())
    }
}

/// The writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    ring: Ring,
    /// Where the next chunk starts. Invariant: below the ring's words.
    index: u32,
}

impl Writer {
    /// The writer of a new ring.
    pub(crate) fn new(ring: Ring) -> Self {
        Self { ring, index: 0 }
    }

    /// The ring.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Bytes that may be taken now.
    fn free(&self) -> Result<usize, Broken> {
        let read = self.ring.field(ring_header::READ_INDEX).load(Ordering::Acquire);
        let (words, write) = (self.ring.words, self.index);
        if read >= words {
            return Err(Broken("read index"));
        }
        let free = match write.cmp(&read) {
            // Never full: a chunk leaves room behind it.
            std::cmp::Ordering::Equal => words,
            std::cmp::Ordering::Greater => words - (write - read) - 1,
            std::cmp::Ordering::Less => read - write - 1,
        };
        Ok(free as usize * 4)
    }

    /// Writes the `parts` as one chunk and announces it, or not if there is no room for it until
    /// the other end reads. Tells which.
    ///
    /// # Errors
    /// If the other end's index is nonsense.
    pub(crate) fn put(&mut self, parts: &[&[u8]]) -> Result<bool, Broken> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len > 0, "libqb takes an empty chunk for none");
        if len + MARGIN > self.free()? {
            return Ok(false);
        }
        let (length, state) = (self.ring.word(self.index), self.ring.word(self.index + 1));
        length.store(0, Ordering::Relaxed);
        state.store(STATE_ALLOCATED, Ordering::Relaxed);
        let mut skip = 0;
        for part in parts {
            self.ring.copy_in(self.index, skip, part);
            skip += part.len();
        }
        length.store(len as u32, Ordering::Relaxed);
        self.index = self.ring.next(self.index, len);
        self.ring.field(ring_header::WRITE_INDEX).store(self.index, Ordering::Relaxed);
        state.store(STATE_COMMITTED, Ordering::Release);
        sem::post(self.ring.semaphore());
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
