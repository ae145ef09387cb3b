//! A VM's serial line, shared by those who look at it and the one who types on it.

use super::{
    Manager,
    caller::Caller,
    error::Result,
    kept, launch, log,
    machine::Machine,
    owner::{self, Root, check_owner},
};
use crate::api::{ApiError, ErrorKind, VmNumber, console};
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::{Mutex, watch},
};

/// More than this much of the log is not replayed.
const REPLAY_BYTES: u64 = 256 * 1024;

/// One viewer's hold on a VM's serial line. Dropped, it lets the keyboard go.
#[derive(Debug)]
pub struct ConsoleLine {
    /// The VM.
    pub vm: VmNumber,
    /// What the guest has said and says: QEMU writes it whether or not anybody looks.
    pub log: PathBuf,
    /// Who looks.
    pub caller: Caller,
    socket: PathBuf,
    machine: Weak<Machine>,
    keyboard: Arc<Keyboard>,
    /// Tells the viewers of one run apart.
    viewer: u64,
    /// Why this viewer may not type at all.
    refusal: Option<ApiError>,
}

/// A run's keyboard: who has it, and the one connection to QEMU's serial socket, which serves a single client.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    connection: Mutex<Option<OwnedWriteHalf>>,
    typist: watch::Sender<Option<Typist>>,
    viewers: AtomicU64,
}

/// The viewer who types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typist {
    viewer: u64,
    uid: u32,
}

impl Manager {
    /// A hold on a VM's serial line.
    ///
    /// # Errors
    /// When there is no such VM, it does not run, or it has no serial line.
    pub fn console(&self, caller: Caller, number: VmNumber) -> Result<ConsoleLine> {
        let host = self.host()?;
        let row = self.vm_row(number)?;
        let machine = self.running(number)?;
        if launch::served(&kept::domain(&host, &row)?).is_empty() {
            let message =
                format!("VM {number} has no console: there is no <serial> in its template");
            return Err(ApiError::new(ErrorKind::Refused, message));
        }
        self.touch(&row);
        let paths = self.paths.vm(number);
        Ok(ConsoleLine {
            vm: number,
            log: paths.console_log(),
            caller,
            socket: paths.console_socket(),
            viewer: machine.keyboard.viewers.fetch_add(1, Ordering::Relaxed),
            keyboard: machine.keyboard.clone(),
            machine: Arc::downgrade(&machine),
            refusal: check_owner(&host, caller, &row, Root::May).err(),
        })
    }
}

impl ConsoleLine {
    /// True once the VM has ended.
    pub fn has_ended(&self) -> bool {
        self.machine
            .upgrade()
            .is_none_or(|machine| machine.standing().gone)
    }

    /// Where a viewer begins to read a log of this length: at `wanted` as far as that is kept, or with the recent
    /// past.
    pub fn begin(&self, length: u64, wanted: Option<u64>) -> u64 {
        let recent = length.saturating_sub(REPLAY_BYTES);
        wanted
            .unwrap_or(recent)
            .clamp(log::first_kept(length), length)
    }

    /// Makes this viewer the one who types if nobody does, or in any case if it wants to `take` the keyboard over;
    /// true if it was not before.
    ///
    /// # Errors
    /// When somebody else has the keyboard, or this viewer may not have it.
    pub fn claim(&self, take: bool) -> Result<bool> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let me = Typist {
            viewer: self.viewer,
            uid: self.caller.uid,
        };
        let mut result = Ok(false);
        self.keyboard
            .typist
            .send_if_modified(|typist| match *typist {
                Some(now) if now == me => false,
                Some(other) if !take => {
                    result = Err(self.taken(other));
                    false
                }
                _ => {
                    *typist = Some(me);
                    result = Ok(true);
                    true
                }
            });
        result
    }

    fn taken(&self, by: Typist) -> ApiError {
        let (number, user) = (self.vm, owner::name_of(by.uid));
        ApiError::new(
            ErrorKind::Refused,
            format!(
                "{user} types on the console of VM {number}, so what you typed did not reach it"
            ),
        )
        .hint(format!(
            "`fvm console {number} --take` takes the keyboard over"
        ))
    }

    /// Lets the keyboard go, if this viewer has it.
    pub fn let_go(&self) {
        self.keyboard.typist.send_if_modified(|typist| {
            let mine = typist.is_some_and(|now| now.viewer == self.viewer);
            if mine {
                *typist = None;
            }
            mine
        });
    }

    /// Follows who has the keyboard.
    pub fn typists(&self) -> watch::Receiver<Option<Typist>> {
        self.keyboard.typist.subscribe()
    }

    /// Who has the keyboard, for this viewer.
    pub fn told(&self, typist: Option<Typist>) -> Option<console::Typist> {
        typist.map(|typist| console::Typist {
            user: owner::name_of(typist.uid),
            you: typist.viewer == self.viewer,
        })
    }

    /// Types on the line. What a guest does not read waits here, until somebody else takes the keyboard.
    ///
    /// # Errors
    /// When QEMU does not take it.
    pub async fn type_in(&self, bytes: &[u8]) -> io::Result<()> {
        let mut typists = self.typists();
        let another = typists.wait_for(|now| now.is_none_or(|now| now.viewer != self.viewer));
        tokio::select! {
            passed_on = self.pass_on(bytes) => passed_on,
            _ = another => Ok(()),
        }
    }

    async fn pass_on(&self, bytes: &[u8]) -> io::Result<()> {
        let mut connection = self.keyboard.connection.lock().await;
        if let Some(writer) = connection.as_mut()
            && writer.write_all(bytes).await.is_ok()
        {
            return Ok(());
        }
        // Nobody has typed yet, or the connection broke.
        let (mut said, mut writer) = UnixStream::connect(&self.socket).await?.into_split();
        // What the line says is in the log; unread here, it would hold the guest up.
        tokio::spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            while said.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        });
        writer.write_all(bytes).await?;
        *connection = Some(writer);
        Ok(())
    }
}

impl Drop for ConsoleLine {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(keyboard: &Arc<Keyboard>, uid: u32, refusal: Option<ApiError>) -> ConsoleLine {
        ConsoleLine {
            vm: 42.into(),
            log: PathBuf::new(),
            caller: Caller { uid },
            socket: PathBuf::new(),
            machine: Weak::new(),
            keyboard: keyboard.clone(),
            viewer: keyboard.viewers.fetch_add(1, Ordering::Relaxed),
            refusal,
        }
    }

    #[test]
    fn one_types_and_the_others_are_told_who() {
        let keyboard = Arc::default();
        let (first, second) = (viewer(&keyboard, 0, None), viewer(&keyboard, 0, None));
        let mut typists = first.typists();
        assert_eq!(first.claim(false), Ok(true));
        assert_eq!(first.claim(false), Ok(false), "it has it already");
        let refusal = second.claim(false).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Refused);
        assert!(refusal.message.contains("root types"), "{refusal}");
        assert!(refusal.hint.unwrap().contains("--take"));

        assert_eq!(second.claim(true), Ok(true));
        assert!(typists.has_changed().unwrap());
        let now = first.told(*typists.borrow_and_update()).unwrap();
        assert_eq!((now.user.as_str(), now.you), ("root", false));
        assert!(first.claim(false).is_err());
        // Who does not have it cannot let it go.
        first.let_go();
        assert!(first.claim(false).is_err());
        drop(second);
        assert_eq!(first.claim(false), Ok(true), "it was not let go");
    }

    #[test]
    fn who_may_not_type_may_not_take_it_either() {
        let keyboard = Arc::default();
        let refusal = ApiError::new(ErrorKind::Refused, "VM 42 is not yours");
        let stranger = viewer(&keyboard, 7, Some(refusal.clone()));
        assert_eq!(stranger.claim(true), Err(refusal));
        assert_eq!(*stranger.typists().borrow(), None);
    }

    #[test]
    fn a_viewer_goes_on_where_it_was_as_far_as_that_is_kept() {
        let viewer = viewer(&Arc::default(), 0, None);
        assert_eq!(viewer.begin(1000, None), 0);
        assert_eq!(viewer.begin(REPLAY_BYTES + 10, None), 10);
        assert_eq!(viewer.begin(1000, Some(600)), 600);
        assert_eq!(viewer.begin(1000, Some(5000)), 1000);
        let long = 100 << 20;
        assert_eq!(viewer.begin(long, Some(5000)), log::first_kept(long));
    }
}
