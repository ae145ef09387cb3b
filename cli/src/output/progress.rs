//! Progress on a terminal; nothing anywhere else.

use super::text::plain;
use crate::{
    decode::Meter,
    quantity::{Bytes, rough_duration},
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{fmt, time::Duration};

/// How often a running clock is drawn anew.
pub(crate) const TICK: Duration = Duration::from_millis(200);

/// How long a rate is measured before a time is predicted from it.
const TRUST: Duration = Duration::from_secs(1);

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
            Some(_) => "{prefix}  {wide_bar} {percent:>3} %  {done} of {all}  {rate}/s  {msg}",
            None => "{prefix}  {spinner} {done}  {rate}/s  {msg}",
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
        self.bar.set_position(meter.input());
        let message = if meter.is_done() {
            "finishing".to_owned()
        } else if self.bounded && self.bar.elapsed() > TRUST {
            format!("{} left", rough_duration(self.bar.eta().as_secs()))
        } else {
            String::new()
        };
        self.bar.set_message(message);
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
        .with_key("done", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", Bytes(state.pos()));
        })
        .with_key("all", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", Bytes(state.len().unwrap_or(0)));
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn fmt::Write| {
            let _ = write!(out, "{}", Bytes(state.per_sec() as u64));
        })
}
