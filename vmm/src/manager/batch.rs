//! The same operation on several VMs, side by side, each with its own outcome.

use super::{Manager, error::Result};
use crate::api::{
    Action, ApiError, BatchReport, ErrorKind, REPORT_VERSION, VmNumber, VmOutcome, VmReport,
};
use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// VMs worked on at once. Most of an operation is waiting, for QEMU or for the disk.
const WORKERS: usize = 16;

/// Calls `work` for each number, several at once; the results are in the order of `numbers`.
pub(super) fn side_by_side<T: Send>(
    numbers: &[VmNumber],
    work: impl Fn(VmNumber) -> Result<T> + Sync,
) -> Vec<(VmNumber, Result<T>)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(numbers.len()));
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(numbers.len()) {
            scope.spawn(|| {
                while let Some(&number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(number)))
                            .unwrap_or_else(|_| {
                                Err(
                                    ApiError::new(ErrorKind::Internal, "fvmd failed while at work")
                                        .hint(
                                            "this is a bug in fvm; `journalctl -u fvmd` has more",
                                        ),
                                )
                            });
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((number, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results
}

/// The report of a batch that is not about the VMs as such.
pub(super) fn report_of<R>(action: Action, results: Vec<(VmNumber, Result<R>)>) -> BatchReport<R> {
    let outcomes = results
        .into_iter()
        .map(|(vm, result)| {
            let (report, error) = match result {
                Ok(report) => (Some(report), None),
                Err(error) => (None, Some(error)),
            };
            VmOutcome { vm, report, error }
        })
        .collect();
    BatchReport {
        version: REPORT_VERSION,
        action,
        outcomes,
    }
}

impl Manager {
    /// The report of a batch.
    pub(super) fn batch_report(
        &self,
        action: Action,
        results: Vec<(VmNumber, Result<Option<VmReport>>)>,
    ) -> BatchReport {
        let outcomes = results
            .into_iter()
            .map(|(vm, result)| match result {
                Ok(report) => VmOutcome {
                    vm,
                    report,
                    error: None,
                },
                Err(error) => VmOutcome {
                    vm,
                    report: self.info(vm).ok(),
                    error: Some(error),
                },
            })
            .collect();
        BatchReport {
            version: REPORT_VERSION,
            action,
            outcomes,
        }
    }
}
