//! A queue that threads wait on.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// Tasks for one or several threads, in the order in which they came.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Adds a task. Once the queue is closed it is dropped.
    pub(super) fn push(&self, task: T) {
        let mut state = self.state.lock();
        if !state.closed {
            state.waiting.push_back(task);
            self.arrived.notify_one();
        }
    }

    /// Waits for a task; `None` when there are none and the queue is closed.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.waiting.pop_front() {
                return Some(task);
            }
            if state.closed {
                return None;
            }
            self.arrived.wait(&mut state);
        }
    }

    /// The next task, if there is one and it is wanted.
    pub(super) fn pop_if(&self, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut state = self.state.lock();
        if state.waiting.front().is_some_and(wanted) { state.waiting.pop_front() } else { None }
    }

    /// Lets the threads end when they have done what waits.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_all();
    }
}
