//! Progress on a terminal; nothing anywhere else.

use super::text::plain;
use crate::decode::Meter;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// How often a running clock is drawn anew.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// A bar or a line that goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
    /// What is counted has a known end.
    bounded: bool,
}

impl Progress {
    /// Bytes on their way, out of `total` if that is known.
    pub(super) fn transfer(what: &str, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => {
                "{prefix}  {bar:24} {percent:>3}%  {bytes} of {total_bytes}  {bytes_per_sec}  {msg}  {eta} left"
            }
            None => "{prefix}  {spinner} {bytes}  {bytes_per_sec}  {msg}  {elapsed}",
        };
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        bar.set_style(style(template));
        bar.set_prefix(plain(what).into_owned());
        Self {
            bar,
            bounded: total.is_some(),
        }
    }

    /// A line that says what is being waited for.
    pub(super) fn waiting(what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {msg}  {elapsed}"));
        bar.set_message(plain(what).into_owned());
        bar.enable_steady_tick(TICK);
        Self {
            bar,
            bounded: false,
        }
    }

    /// Shows how far a transfer has come.
    pub(crate) fn moved(&self, meter: &Meter) {
        let content = crate::quantity::Bytes(meter.content());
        self.bar.set_message(format!("{content} unpacked"));
        self.bar.set_position(meter.input());
        if self.bounded && Some(meter.input()) >= self.bar.length() {
            self.bar
                .set_message(format!("{content} unpacked, being written"));
        }
    }

    /// Says something else.
    pub(crate) fn says(&self, text: &str) {
        self.bar.set_message(plain(text).into_owned());
    }

    /// Lets `print` write lines without the bar in their way.
    pub(super) fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; a wrong one would only look plain.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
