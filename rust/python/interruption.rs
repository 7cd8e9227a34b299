//! An end for a program whose main thread hears no signals.
//!
//! Python runs the handlers of signals between two of its own steps. A library that computes for
//! long, or waits for what will not come, keeps it from both; then the program ends from here as
//! it would have ended there.

use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use crate::allocation::{leave_for, starting};
use crate::platform::{file_of_descriptor, spared_signals, wait_for_input};

/// How often the clock is looked at while a signal has not been heard.
const STEP: Duration = Duration::from_millis(50);

/// What a handler writes behind the signals that it has heard.
const HEARD: u8 = 0;

/// Watches the signals that Python writes to a pipe, until its other end is closed.
///
/// Where no handler has written a zero behind SIGINT or SIGTERM `patience` seconds later, or
/// until another one comes, at least `pause` seconds later, the process ends. The reading end
/// `descriptor` is closed here.
#[pyfunction]
pub(super) fn watch_signals(descriptor: i32, patience: f64, pause: f64) -> PyResult<()> {
    let seconds = |value| Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX);
    let (patience, pause) = (seconds(patience), seconds(pause));
    // SAFETY: the caller gives it away.
    let signals = unsafe { file_of_descriptor(descriptor) };
    let thread = thread::Builder::new().name("signals".into());
    starting(|| spared_signals(|| thread.spawn(move || watch(signals, patience, pause))))
        .map(drop)
        .map_err(|error| PyOSError::new_err(error.to_string()))
}

fn watch(mut signals: File, patience: Duration, pause: Duration) {
    let mut unheard: Option<(Instant, u8)> = None;
    loop {
        if let Some((since, signal)) = unheard {
            if since.elapsed() >= patience {
                leave(signal);
            }
            match wait_for_input(&signals, STEP) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return,
            }
        }
        let mut byte = [0];
        if signals.read_exact(&mut byte).is_err() {
            return;
        }
        let [signal] = byte;
        unheard = match unheard {
            _ if signal == HEARD => None,
            Some((since, _)) if is_end(signal) && since.elapsed() >= pause => leave(signal),
            None if is_end(signal) => Some((Instant::now(), signal)),
            as_before => as_before,
        };
    }
}

fn is_end(signal: u8) -> bool {
    matches!(i32::from(signal), libc::SIGINT | libc::SIGTERM)
}

fn leave(signal: u8) -> ! {
    let is_interrupt = i32::from(signal) == libc::SIGINT;
    leave_for(if is_interrupt { "interrupted" } else { "terminated" }, 128 + i32::from(signal))
}
