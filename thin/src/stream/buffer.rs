//! Memory for `O_DIRECT`, which has to begin on a boundary.

/// The largest logical block of any device; a smaller one divides it.
const ALIGNMENT: usize = 4096;

/// Zeroed memory that begins on a page boundary.
#[derive(Debug)]
pub(super) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    pub(super) fn new(length: usize) -> Self {
        let memory = vec![0; length + ALIGNMENT];
        // The vector is never resized, so what is aligned now stays so.
        let address = memory.as_ptr() as usize;
        let start = address.next_multiple_of(ALIGNMENT) - address;
        Self {
            memory,
            start,
            length,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_as_long_as_asked_for() {
        for length in [1, 4096, 2 << 20] {
            let mut buffer = AlignedBuffer::new(length);
            assert_eq!(buffer.bytes().as_ptr() as usize % ALIGNMENT, 0);
            assert_eq!(buffer.bytes_mut().len(), length);
        }
    }
}
