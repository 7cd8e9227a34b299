//! An end for a program whose main thread hears no signals.
//!
//! Python runs the handlers of signals between two of its own steps. A library that computes for
//! long, or waits for what will not come, keeps it from both; then the program ends from here as
//! it would have ended there.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::Read;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyOSError;
use pyo3::ffi::Py_AddPendingCall;
use pyo3::prelude::*;

use crate::allocation::{leave_for, starting};
use crate::platform::{file_of_descriptor, wait_for_input};

/// How often the main thread's answer is looked for.
const STEP: Duration = Duration::from_millis(50);

/// Whether the main thread has run since it was asked to.
static HAS_ANSWERED: AtomicBool = AtomicBool::new(false);

/// Watches the signals that Python writes to a pipe, until its other end is closed.
///
/// Where the main thread has not run `patience` seconds after SIGINT or SIGTERM, or at a second
/// one `pause` seconds after the first, the process ends. The reading end `descriptor` is closed
/// here.
#[pyfunction]
pub(super) fn watch_signals(descriptor: i32, patience: f64, pause: f64) -> PyResult<()> {
    let seconds = |value| Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX);
    let (patience, pause) = (seconds(patience), seconds(pause));
    // SAFETY: the caller gives it away.
    let signals = unsafe { file_of_descriptor(descriptor) };
    let thread = thread::Builder::new().name("signals".into());
    starting(|| thread.spawn(move || watch(signals, patience, pause)))
        .map(drop)
        .map_err(|error| PyOSError::new_err(error.to_string()))
}

fn watch(mut signals: File, patience: Duration, pause: Duration) {
    while let Some(signal) = next(&mut signals) {
        let Some(name) = end_for(signal) else {
            continue;
        };
        HAS_ANSWERED.store(false, Ordering::Release);
        let came = Instant::now();
        let mut is_asked = false;
        while !has_answered() {
            is_asked = is_asked || ask();
            if came.elapsed() >= patience {
                leave_for(name, 128 + i32::from(signal));
            }
            match wait_for_input(&signals, STEP) {
                Ok(true) => match next(&mut signals) {
                    Some(again) => {
                        let is_late = came.elapsed() >= pause;
                        if let Some(name) = end_for(again).filter(|_| is_late && !has_answered()) {
                            leave_for(name, 128 + i32::from(again));
                        }
                    }
                    None => return,
                },
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }
}

/// What a signal ends the program as, if it does.
fn end_for(signal: u8) -> Option<&'static str> {
    match i32::from(signal) {
        libc::SIGINT => Some("interrupted"),
        libc::SIGTERM => Some("terminated"),
        _ => None,
    }
}

fn has_answered() -> bool {
    HAS_ANSWERED.load(Ordering::Acquire)
}

fn next(signals: &mut File) -> Option<u8> {
    let mut byte = [0];
    signals.read_exact(&mut byte).ok().map(|()| byte[0])
}

/// Asks Python to answer when it next comes to it; whether it has taken note.
fn ask() -> bool {
    // SAFETY: it may be called from any thread, and the interpreter is there as long as it
    // holds the other end of the pipe.
    unsafe { Py_AddPendingCall(Some(answer), null_mut()) == 0 }
}

extern "C" fn answer(_: *mut c_void) -> c_int {
    HAS_ANSWERED.store(true, Ordering::Release);
    0
}
