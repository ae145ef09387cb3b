//! A VM's serial line, shared by those who look at it and type on it.

use super::{Manager, error::Result};
use crate::api::{ApiError, ErrorKind, VmNumber};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::Mutex,
};

/// One viewer's hold on a VM's serial line.
#[derive(Debug)]
pub struct ConsoleLine {
    /// The VM.
    pub vm: VmNumber,
    /// What the guest has said and says: QEMU writes it whether or not anybody looks.
    pub log: PathBuf,
    socket: PathBuf,
    machine: Weak<super::machine::Machine>,
    keyboard: Arc<Keyboard>,
}

/// The one connection to QEMU's serial socket, which serves a single client; made when somebody types.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    connection: Mutex<Option<OwnedWriteHalf>>,
}

impl Manager {
    /// A hold on a VM's serial line.
    ///
    /// # Errors
    /// When there is no such VM or it does not run.
    pub fn console(&self, number: VmNumber) -> Result<ConsoleLine> {
        let row = self.vm_row(number)?;
        let machine = self.machines.up(number).ok_or_else(|| {
            ApiError::new(ErrorKind::Refused, format!("VM {number} is not running"))
                .hint(format!("`fvm start {number}` starts it"))
        })?;
        self.touch(&row);
        let paths = self.paths.vm(number);
        Ok(ConsoleLine {
            vm: number,
            log: paths.console_log(),
            socket: paths.console_socket(),
            keyboard: machine.keyboard.clone(),
            machine: Arc::downgrade(&machine),
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

    /// Types on the line.
    ///
    /// # Errors
    /// When QEMU does not take it.
    pub async fn type_in(&self, bytes: &[u8]) -> io::Result<()> {
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
