//! Memory for text, used again and again.
//!
//! A fresh buffer for every chunk would cost as much as parsing what is in it:
//! the operating system clears its pages, and then they are set to zero.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use crate::allocation;
use crate::error::{Error, Result};

/// Larger buffers, which a giant record needed, are given back to the system.
const LARGEST: usize = 1 << 22;

/// Buffers that are kept at most.
const KEPT: usize = 64;

/// Buffers that wait to be used again.
#[derive(Clone, Debug, Default)]
pub struct TextPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl TextPool {
    /// An empty buffer, which comes back when it is dropped.
    pub fn take(&self) -> TextBuffer {
        let memory = self.0.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or_default();
        TextBuffer { memory, length: 0, pool: Some(self.clone()) }
    }
}

/// Text that can grow.
#[derive(Debug, Default)]
pub struct TextBuffer {
    /// As long as it ever was, so that growing again sets nothing to zero.
    memory: Vec<u8>,
    /// Bytes of `memory` that are text.
    length: usize,
    pool: Option<TextPool>,
}

impl TextBuffer {
    /// Appends as much as `read` writes into the room up to `length`.
    ///
    /// # Errors
    /// Those of `read`, or if there is no memory; the text is as it was, then.
    pub fn append<E: From<Error>>(
        &mut self,
        length: usize,
        read: impl FnOnce(&mut [u8]) -> std::result::Result<usize, E>,
    ) -> std::result::Result<usize, E> {
        if self.memory.len() < length {
            allocation::resize(&mut self.memory, length)?;
        }
        let count = read(&mut self.memory[self.length..length.max(self.length)])?;
        self.length += count;
        Ok(count)
    }

    /// Appends a copy.
    ///
    /// # Errors
    /// If there is no memory; the text is as it was, then.
    pub fn extend_from_slice(&mut self, text: &[u8]) -> Result<()> {
        let end = self.length + text.len();
        if self.memory.len() < end {
            // What is behind the text is not worth keeping.
            self.memory.truncate(self.length);
            allocation::append(&mut self.memory, text)?;
        } else {
            self.memory[self.length..end].copy_from_slice(text);
        }
        self.length = end;
        Ok(())
    }

    /// Shortens the text.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Takes the first `count` bytes away.
    pub fn remove_front(&mut self, count: usize) {
        self.copy_within(count.., 0);
        self.length -= count;
    }
}

impl Deref for TextBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.length]
    }
}

impl DerefMut for TextBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.length]
    }
}

impl From<Vec<u8>> for TextBuffer {
    fn from(memory: Vec<u8>) -> Self {
        Self { length: memory.len(), memory, pool: None }
    }
}

impl Drop for TextBuffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool
            && (1..=LARGEST).contains(&self.memory.len())
            && let Ok(mut spare) = pool.0.lock()
            && spare.len() < KEPT
        {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_was_appended() {
        let pool = TextPool::default();
        for _ in 0..3 {
            let mut text = pool.take();
            assert!(text.is_empty());
            text.extend_from_slice(b"ACGT").unwrap();
            let count = text.append::<Error>(10, |room| {
                room[..2].copy_from_slice(b"NN");
                Ok(2)
            });
            assert_eq!(count.unwrap(), 2);
            let error = text.append(20, |_| Err(Error::Argument("no".into()))).unwrap_err();
            assert_eq!(error.to_string(), "no");
            text.extend_from_slice(&[b'-'; 30]).unwrap();
            text.truncate(8);
            text.remove_front(3);
            assert_eq!(*text, *b"TNN--");
        }
    }

    #[test]
    fn memory_goes_back_to_the_pool() {
        let pool = TextPool::default();
        for length in [1000, 10, LARGEST + 1] {
            pool.take().extend_from_slice(&vec![1; length]).unwrap();
        }
        let spare = pool.0.lock().unwrap();
        // The second one was lent the memory of the first, the third outgrew it.
        assert!(spare.is_empty());
        drop(spare);
        let both = [pool.take(), pool.take()].map(|mut text| text.extend_from_slice(b"A").unwrap());
        assert_eq!(both.len(), 2);
        assert_eq!(pool.0.lock().unwrap().len(), 2);
    }
}
