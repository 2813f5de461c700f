//! Backups that clients ask for. A backup begins once the batch that asks for it is durable. A
//! thread of the store writes the backup and sends its answer.

use std::path::PathBuf;

use celeriac_machine::command::{Answer, Code, ConnectionKey, Refusal, RequestId};
use celeriac_store::{BackupError, Error};

use super::Committer;
use crate::encode;
use crate::outgoing::Outgoing;
use crate::send_queue::Frames;

/// A request for a backup.
pub(super) struct Backup {
    pub(super) connection: ConnectionKey,
    pub(super) request: RequestId,
    pub(super) folder: PathBuf,
    pub(super) tasks: u64,
}

impl Committer {
    /// Starts a backup. A backup keeps no connection open for its answer.
    pub(super) fn start_backup(&mut self, backup: Backup) {
        let Backup { connection, request, folder, tasks } = backup;
        let answer_to = self.connections.late_sender(connection);
        let limits = self.config.limits;
        self.store.start_backup(folder, move |outcome| {
            let answer = match outcome {
                Ok(bytes) => Answer::BackedUp { tasks, bytes },
                Err(error) => Answer::Refused(no_backup(&error)),
            };
            if let Some(messages) = answer_to.and_then(|messages| messages.upgrade()) {
                // When the queue is full, the client does not read; the next message to that client
                // ends its connection.
                let mut frames = Frames::of_few_bytes();
                let message = Outgoing::Answer(request, answer);
                frames.add(|buffer| encode::append(message, &limits, None, buffer));
                let _ = messages.try_send(frames);
            }
        });
    }
}

fn no_backup(error: &BackupError) -> Refusal {
    let code = match error {
        BackupError::Busy => Code::Overloaded,
        BackupError::Place { .. } => Code::InvalidArgument,
        BackupError::GivenUp => Code::ShuttingDown,
        BackupError::Failed(Error::NoRoom { .. }) => Code::DiskFull,
        BackupError::Failed(_) => Code::Internal,
    };
    Refusal::new(code, error.to_string())
}
