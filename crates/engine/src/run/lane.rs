//! Lanes: a thread per sink writer, so that encoding runs beside the ticks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, Sender, bounded};
use watershed_ports::{Sink, SinkWriter, Staged};
use watershed_types::{Epoch, Error, Result};

use super::stages::{Stage, timed};

enum Message {
    Write(Epoch, RecordBatch),
    Seal(Sender<Result<Option<Staged>>>),
}

/// One writer thread of a sink.
pub struct Lane {
    sender: Sender<Message>,
    failed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    /// Starts the thread. `backlog` batches may wait before [`Lane::write`] blocks: that is the backpressure.
    pub fn start(sink: Arc<dyn Sink>, backlog: usize) -> std::io::Result<Lane> {
        let (sender, receiver) = bounded(backlog);
        let failed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&failed);
        let thread = std::thread::Builder::new().name(format!("sink-{}", sink.name())).spawn(move || run(&sink, &receiver, &flag))?;
        Ok(Lane { sender, failed, thread: Some(thread) })
    }

    /// Hands over rows of an epoch. After a failure rows are dropped: the epoch cannot be sealed any more.
    pub fn write(&self, epoch: Epoch, batch: RecordBatch) {
        if self.sender.send(Message::Write(epoch, batch)).is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    /// True if a write would not have to wait.
    pub fn has_room(&self) -> bool {
        !self.sender.is_full()
    }

    /// True once a write has failed; the reason comes with [`Lane::seal`].
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Asks for everything written so far to be made durable. The answer is `None` if nothing was written.
    pub fn seal(&self) -> Receiver<Result<Option<Staged>>> {
        let (answer, receiver) = bounded(1);
        if self.sender.send(Message::Seal(answer.clone())).is_err() {
            let _ = answer.send(Err(Error::internal("RUN0003", "a sink's writer thread has ended")));
        }
        receiver
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let (closed, _) = bounded(0);
        self.sender = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(sink: &Arc<dyn Sink>, receiver: &Receiver<Message>, failed: &AtomicBool) {
    let mut writer: Option<Box<dyn SinkWriter>> = None;
    let mut error: Option<Error> = None;
    for message in receiver {
        match message {
            Message::Write(epoch, batch) => {
                if error.is_some() {
                    continue;
                }
                let mut write = || -> Result<()> {
                    let writer = match &mut writer {
                        Some(writer) => writer,
                        None => writer.insert(sink.writer(epoch)?),
                    };
                    writer.write(&batch)
                };
                if let Err(e) = timed(Stage::Encode, &mut write) {
                    failed.store(true, Ordering::Relaxed);
                    error = Some(e);
                }
            }
            Message::Seal(answer) => {
                let staged = match (error.take(), writer.take()) {
                    (Some(error), _) => Err(error),
                    (None, Some(writer)) => timed(Stage::Encode, || writer.seal()).map(Some),
                    (None, None) => Ok(None),
                };
                let _ = answer.send(staged);
            }
        }
    }
}
