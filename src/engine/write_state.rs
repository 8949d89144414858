//! Outcome of the last commit, for all threads without a lock: changes are accepted or refused.

use super::EngineError;
use std::sync::atomic::{AtomicU8, Ordering};

/// The outcome of the last commit.
#[derive(Debug, Default)]
pub(super) struct WriteState(AtomicU8);

const WRITABLE: u8 = 0;
const FAILED: u8 = 1;
const NO_SPACE: u8 = 2;

impl WriteState {
    /// Fails with the error of all changes until a commit succeeds.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        match self.0.load(Ordering::Acquire) {
            WRITABLE => Ok(()),
            NO_SPACE => Err(EngineError::NoSpace),
            _ => Err(EngineError::Storage),
        }
    }

    pub(super) fn is_failed(&self) -> bool {
        self.check().is_err()
    }

    /// A commit failed. Returns true if the one before did not.
    pub(super) fn fail(&self, error: &EngineError) -> bool {
        let state = if *error == EngineError::NoSpace { NO_SPACE } else { FAILED };
        self.0.swap(state, Ordering::AcqRel) == WRITABLE
    }

    /// A commit succeeded. Returns true if the one before did not.
    pub(super) fn recover(&self) -> bool {
        // Without a write where nothing changes: the state is read for each change.
        self.is_failed() && self.0.swap(WRITABLE, Ordering::AcqRel) != WRITABLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_that_of_the_last_commit() {
        let state = WriteState::default();
        assert_eq!(state.check(), Ok(()));
        assert!(state.fail(&EngineError::NoSpace));
        assert_eq!(state.check(), Err(EngineError::NoSpace));
        assert!(!state.fail(&EngineError::Storage));
        assert_eq!(state.check(), Err(EngineError::Storage));
        assert!(state.recover() && !state.is_failed());
        assert!(!state.recover());
    }
}
