//! All that the program prints: results on standard output, everything else on standard error.
//!
//! Owns the choice between text and JSON, colour, progress, questions, and what happens when nobody reads
//! any more: later output is dropped, and the command goes on to its end and its exit status.

mod log;
mod progress;
mod raw;
mod show;
mod style;
mod table;
mod text;

pub(crate) use log::LogText;
pub(crate) use progress::{Progress, TICK};
pub(crate) use raw::{RawOutput, nobody_reads};
pub(crate) use show::{
    ExecOutcome, ExecReport, LabBatches, LabChange, LabReport, LabVm, Look, Plan, Show, SshConfig,
    SshHost, compacted_line, disk_line, message_line, snapshot_line,
};

use fvm_vmm::api::{
    Action, AgentReport, ApiError, BatchReport, Event, GuestExit, VmNumber, VmOutcome,
};
use serde::Serialize;
use std::{
    cell::{Cell, RefCell},
    io::{self, IsTerminal, Write},
    time::Duration,
};
use style::{Palette, Tone};
use text::plain;

/// What the user asked for in general.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    /// Reports and errors as JSON.
    pub(crate) json: bool,
    /// Every event of an operation, a line each.
    pub(crate) verbose: bool,
}

/// The one owner of standard output and standard error.
#[derive(Debug)]
pub(crate) struct Output {
    wishes: Wishes,
    look: Look,
    stderr: Palette,
    progress: RefCell<Option<Progress>>,
    /// Nobody reads standard output any more.
    closed: Cell<bool>,
    /// Why results could not be written, other than for that.
    failed: RefCell<Option<io::Error>>,
}

impl Output {
    /// For this process' streams.
    pub(crate) fn new(wishes: Wishes) -> Self {
        Self {
            wishes,
            look: Look::new(Palette::of(&io::stdout())),
            stderr: Palette::of(&io::stderr()),
            progress: RefCell::new(None),
            closed: Cell::new(false),
            failed: RefCell::new(None),
        }
    }

    /// True if the user wants JSON.
    pub(crate) fn json(&self) -> bool {
        self.wishes.json
    }

    /// Seconds until a point in time.
    pub(crate) fn until(&self, then_s: u64) -> u64 {
        self.look.until(then_s)
    }

    /// True once nobody reads standard output any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The error that kept results from being written, if there was one.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        self.failed.take()
    }

    /// A report, as text or JSON.
    pub(crate) fn report(&self, report: &(impl Serialize + Show)) {
        self.either(report, || report.show(&self.look));
    }

    /// Makes room for what is shown again: on a terminal, what was there goes.
    pub(crate) fn clear(&self) {
        if !self.json() && style::is_capable(&io::stdout()) {
            // Home, and clear to the end of the screen (ECMA-48, CUP and ED).
            self.print("\u{1b}[H\u{1b}[J");
        }
    }

    /// A report that was told as text as it came, if JSON is wanted.
    pub(crate) fn json_report(&self, report: &impl Serialize) {
        if self.json() {
            self.print_json(report);
        }
    }

    /// What is JSON whatever the user asked for.
    pub(crate) fn always_json(&self, answer: &impl Serialize) {
        self.print_json(answer);
    }

    /// What a command did in a VM: its two streams, and how it failed.
    pub(crate) fn executed(&self, outcome: &ExecOutcome) {
        self.print(&show::numbered(outcome.vm, &outcome.stdout));
        let complaints = show::numbered(outcome.vm, &outcome.stderr);
        if !complaints.is_empty() {
            self.tell(complaints.trim_end_matches('\n'));
        }
        if let Some(error) = &outcome.error {
            self.complain(Some(outcome.vm), error);
        }
    }

    /// What a program in a guest printed and complained of: as it is, but on a terminal without what that would obey.
    pub(crate) fn guest_exit(&self, report: &AgentReport, exit: &GuestExit) {
        if self.json() {
            return self.print_json(report);
        }
        let text = |text: &str, is_terminal| match is_terminal {
            true => log::harmless(text.as_bytes()),
            false => text.to_owned(),
        };
        self.print(&text(&exit.stdout, io::stdout().is_terminal()));
        let complaints = text(&exit.stderr, io::stderr().is_terminal());
        if !complaints.is_empty() {
            self.tell(complaints.trim_end_matches('\n'));
        }
        if exit.truncated {
            self.note("the guest agent kept only the beginning of what it printed");
        }
    }

    /// A report whose text is one line that only the command can know.
    pub(crate) fn summary(&self, report: &impl Serialize, text: &str) {
        self.either(report, || format!("{}\n", plain(text)));
    }

    /// A report whose text is these lines, which only the command can know.
    pub(crate) fn lines(&self, report: &impl Serialize, lines: &[String]) {
        self.either(report, || {
            lines
                .iter()
                .map(|line| format!("{}\n", plain(line)))
                .collect()
        });
    }

    /// What went wrong with one VM, where others go on.
    pub(crate) fn failure_of(&self, vm: VmNumber, error: &ApiError) {
        self.complain(Some(vm), error);
    }

    /// What became of a batch: each success a line, each failure an error.
    pub(crate) fn batch(&self, report: &BatchReport) {
        if self.json() {
            return self.print_json(report);
        }
        for outcome in &report.outcomes {
            self.outcome(report.action, outcome, None);
        }
    }

    /// The same for a batch whose reports are not about the VMs as such: each success is told by `line`.
    pub(crate) fn batch_of<R: Serialize>(
        &self,
        report: &BatchReport<R>,
        line: impl Fn(&R) -> String,
    ) {
        if self.json() {
            return self.print_json(report);
        }
        for outcome in &report.outcomes {
            match (&outcome.error, &outcome.report) {
                (Some(error), _) => self.complain(Some(outcome.vm), error),
                (None, done) => {
                    let text = done.as_ref().map(&line).unwrap_or_default();
                    self.print(&show::done(outcome.vm, report.action, &text, &self.look));
                }
            }
        }
    }

    /// What became of one VM of a batch, as text; `note` says more.
    pub(crate) fn outcome(&self, action: Action, outcome: &VmOutcome, note: Option<&str>) {
        match &outcome.error {
            Some(error) => self.complain(Some(outcome.vm), error),
            None => {
                let line = show::outcome(action, outcome, note, &self.look);
                self.print(&line);
            }
        }
    }

    /// The error that a command ended with.
    pub(crate) fn error(&self, error: &ApiError) {
        if self.json() {
            let json = serde_json::to_string(error).unwrap_or_default();
            self.tell(&json);
        } else {
            self.complain(None, error);
        }
    }

    /// Something that happened on the way: warnings always, the rest as progress.
    pub(crate) fn event(&self, event: &Event) {
        let about = event.vm.map(|vm| format!("{vm}: ")).unwrap_or_default();
        let text = format!("{about}{}", plain(&event.text));
        if event.warning {
            let label = self.stderr.paint(Tone::Warn, "warning:");
            self.tell(&format!("{label} {text}"));
        } else if self.wishes.verbose {
            self.tell(&text);
        } else if let Some(progress) = &*self.progress.borrow() {
            progress.says(&text);
        }
    }

    /// Shows that something takes time, until [`Self::settled`].
    pub(crate) fn busy(&self, what: &str) {
        self.show_progress(|| Progress::waiting(what));
    }

    /// Says what is being waited for now.
    pub(crate) fn still_busy(&self, what: &str) {
        if let Some(progress) = &*self.progress.borrow() {
            progress.says(what);
        }
    }

    /// Shows bytes on their way, until [`Self::settled`]; [`Self::moved`] moves it on.
    pub(crate) fn transfer(&self, what: &str, total: Option<u64>) {
        self.show_progress(|| Progress::transfer(what, total));
    }

    /// Moves a transfer on, and tells what there is to know about it.
    pub(crate) fn moved(&self, meter: &crate::decode::Meter) {
        if let Some(stage) = meter.take_stage() {
            self.transfer(stage.what, stage.total);
        }
        for note in meter.take_notes() {
            self.note(&note);
        }
        if let Some(progress) = &*self.progress.borrow() {
            progress.moved(meter);
        }
    }

    /// Takes away what [`Self::busy`] or [`Self::transfer`] shows.
    pub(crate) fn settled(&self) {
        self.progress.take();
    }

    /// Something to know, on standard error.
    pub(crate) fn note(&self, text: &str) {
        self.tell(&plain(text));
    }

    /// The same while the terminal is raw, where a line feed does not go back to the beginning of the line.
    pub(crate) fn raw_note(&self, text: &str) {
        self.aside(|| {
            let _ = write!(io::stderr().lock(), "\r\n{}\r\n", plain(text));
        });
    }

    /// Part of a report that is shown before a question, on standard error.
    pub(crate) fn preview(&self, report: &impl Show) {
        let look = self.look.with(self.stderr);
        self.tell(report.show(&look).trim_end());
    }

    /// True if there is somebody to answer a question.
    pub(crate) fn can_ask(&self) -> bool {
        !self.json() && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Asks, and returns the answer without the blanks around it; nothing at the end of the input.
    pub(crate) fn ask(&self, question: &str) -> io::Result<Option<String>> {
        let mut stderr = io::stderr().lock();
        write!(stderr, "{} ", plain(question))?;
        stderr.flush()?;
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer)? {
            0 => {
                writeln!(stderr)?;
                Ok(None)
            }
            _ => Ok(Some(answer.trim().to_owned())),
        }
    }

    fn show_progress(&self, progress: impl FnOnce() -> Progress) {
        // Lines of `--verbose` say more, and a bar between them would only flicker.
        if style::is_capable(&io::stderr()) && !self.wishes.verbose {
            *self.progress.borrow_mut() = Some(progress());
        }
    }

    fn either(&self, report: &impl Serialize, text: impl FnOnce() -> String) {
        if self.json() {
            self.print_json(report);
        } else {
            self.print(&text());
        }
    }

    fn print_json(&self, report: &impl Serialize) {
        let json = if io::stdout().is_terminal() {
            serde_json::to_string_pretty(report)
        } else {
            serde_json::to_string(report)
        };
        match json {
            Ok(json) => self.print(&format!("{json}\n")),
            Err(error) => *self.failed.borrow_mut() = Some(error.into()),
        }
    }

    fn print(&self, text: &str) {
        if self.closed.get() {
            return;
        }
        let written = self.aside(|| {
            let mut stdout = io::stdout().lock();
            stdout
                .write_all(text.as_bytes())
                .and_then(|()| stdout.flush())
        });
        if let Err(error) = written {
            self.closed.set(true);
            if error.kind() != io::ErrorKind::BrokenPipe {
                *self.failed.borrow_mut() = Some(error);
            }
        }
    }

    /// A line on standard error. If that fails, there is nowhere left to say so.
    fn tell(&self, line: &str) {
        self.aside(|| {
            let _ = writeln!(io::stderr().lock(), "{line}");
        });
    }

    fn complain(&self, vm: Option<VmNumber>, error: &ApiError) {
        self.tell(&show::error(vm, error, self.stderr));
    }

    /// Prints with the progress out of the way.
    fn aside<R>(&self, print: impl FnOnce() -> R) -> R {
        match &*self.progress.borrow() {
            Some(progress) => progress.suspend(print),
            None => print(),
        }
    }
}

/// A duration as results show it: `1.2 s`, `95 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let decimals = usize::from(seconds < 9.95);
    format!("{seconds:.decimals$} s")
}
