//! Reading a log that is still being written, and that gives its beginning back meanwhile.

use crate::manager::first_kept;
use std::{io::SeekFrom, path::Path, time::Duration};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// How long a reader may lag behind before the log is looked at again.
pub(super) const LAG: Duration = Duration::from_millis(25);

/// A reader of a log.
#[derive(Debug)]
pub(super) struct Tail {
    log: File,
    position: u64,
}

impl Tail {
    /// Reads on from where `begin` says, for a log of the length that it has now.
    pub(super) async fn open(path: &Path, begin: impl FnOnce(u64) -> u64) -> std::io::Result<Self> {
        let mut log = File::open(path).await?;
        let position = begin(log.metadata().await?.len());
        log.seek(SeekFrom::Start(position)).await?;
        Ok(Self { log, position })
    }

    /// Where it is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads what there is; nothing at the end, for now.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let read = self.log.read(buffer).await?;
            let length = self.log.metadata().await?.len();
            let kept = first_kept(length);
            let next = if self.position < kept {
                // Too slow: what was here is gone, and what was read may be the zeros of a hole.
                kept
            } else if read == 0 && length < self.position {
                // It was begun anew.
                0
            } else {
                self.position += read as u64;
                return Ok(read);
            };
            self.position = self.log.seek(SeekFrom::Start(next)).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn what_is_added_is_read_and_what_is_gone_is_passed_over() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"old new").unwrap();
        let mut tail = Tail::open(file.path(), |length| length - 3).await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(tail.read(&mut buffer).await.unwrap(), 3);
        assert_eq!(&buffer[..3], b"new");
        assert_eq!(tail.read(&mut buffer).await.unwrap(), 0);
        file.write_all(b"er").unwrap();
        assert_eq!(tail.read(&mut buffer).await.unwrap(), 2);
        assert_eq!(tail.position(), 9);

        // So much is added that what follows is not kept.
        let length = 100 << 20;
        file.as_file().set_len(length).unwrap();
        tail.read(&mut buffer).await.unwrap();
        assert_eq!(tail.position(), first_kept(length) + 64);

        // It is begun anew.
        file.as_file().set_len(0).unwrap();
        file.as_file().set_len(4).unwrap();
        assert_eq!(tail.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(tail.position(), 4);
    }
}
