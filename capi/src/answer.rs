//! An answer in memory of the library, handed to C and used again for the next one.

use crate::boundary::{Failure, boundary, unique};
use pmxcfs::ipc::qb::client::ClientError;
use pmxcfs::ipc::qb::wire::{RESPONSE_HEADER_LEN, ResponseHeader};
use std::ffi::{c_char, c_void};

/// An answer of the daemon. Set it to PMXCFS_ANSWER_INIT, or all zeros, before its first use. Use it
/// for any number of calls, in one thread at a time, and free it with pmxcfs_answer_free. The next call
/// with it overwrites its content.
#[repr(C)]
#[derive(Debug)]
pub struct Answer {
    /// The data, followed by a NUL that `len` does not count; NULL if the call failed before there
    /// was an answer. It belongs to the library.
    pub data: *const c_char,
    /// How many bytes.
    pub len: usize,
    /// The number of the request that it answers.
    pub id: i32,
    /// 0, or the negative errno that the daemon answered with.
    pub error: i32,
    /// The library's own.
    pub memory: *mut c_void,
    /// The library's own.
    pub capacity: usize,
}

impl Answer {
    /// Forgets what was answered, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        (self.data, self.len, self.id, self.error) = (std::ptr::null(), 0, 0, 0);
    }

    /// Takes the memory out, and leaves an answer without any.
    fn take(&mut self) -> Vec<u8> {
        self.clear();
        let (memory, capacity) = (self.memory, self.capacity);
        (self.memory, self.capacity) = (std::ptr::null_mut(), 0);
        if memory.is_null() {
            return Vec::new();
        }
        // SAFETY: not null, so `put` has left it there, from a vector it took apart; callers change
        // neither. It is taken once: the fields are clear now.
        unsafe { Vec::from_raw_parts(memory.cast(), 0, capacity) }
    }

    fn put(&mut self, memory: Vec<u8>) {
        if memory.capacity() == 0 {
            return;
        }
        let mut memory = std::mem::ManuallyDrop::new(memory);
        self.memory = memory.as_mut_ptr().cast();
        self.capacity = memory.capacity();
    }

    /// Has `request` fill it with a whole message, header included.
    pub(crate) fn fill(
        &mut self,
        request: impl FnOnce(&mut Vec<u8>) -> Result<ResponseHeader, ClientError>,
    ) -> Result<(), Failure> {
        let mut message = self.take();
        let result = request(&mut message);
        let data_len = message.len().checked_sub(RESPONSE_HEADER_LEN);
        message.push(0);
        self.put(message);
        let header = result?;
        let len = data_len.ok_or(ClientError::Protocol("short response"))?;
        // SAFETY: the header, the data and the NUL are in the memory just put here.
        self.data = unsafe { self.memory.cast::<c_char>().add(RESPONSE_HEADER_LEN) };
        (self.len, self.id, self.error) = (len, header.id, header.error);
        answered(header.error)
    }

    /// Lets the memory go.
    pub(crate) fn free(&mut self) {
        drop(self.take());
    }
}

/// The error of an answer as that of the call.
fn answered(error: i32) -> Result<(), Failure> {
    match error {
        0 => Ok(()),
        error => {
            let errno = error.saturating_neg();
            let why = std::io::Error::from_raw_os_error(errno);
            Err(Failure::new(errno, format!("the daemon answers: {why}")))
        }
    }
}

impl Default for Answer {
    fn default() -> Self {
        let (data, memory) = (std::ptr::null(), std::ptr::null_mut());
        Self { data, len: 0, id: 0, error: 0, memory, capacity: 0 }
    }
}

/// Frees the memory of an answer; the answer is all zeros then and may be used again. NULL is fine.
// SAFETY: no other symbol has this name; of the pointer is asked what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pmxcfs_answer_free(answer: *mut Answer) {
    if !answer.is_null() {
        boundary(|| {
            // SAFETY: asked of the caller.
            unsafe { unique("answer", answer) }.map(Answer::free)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round() {
        let mut answer = Answer::default();
        let reply = |message: &mut Vec<u8>, data: &[u8], error| {
            let size = (RESPONSE_HEADER_LEN + data.len()) as i32;
            let header = ResponseHeader { id: 3, size, error };
            message.clear();
            message.extend(header.encode());
            message.extend(data);
            Ok(header)
        };
        answer.fill(|message| reply(message, &[b'x'; 1000], 0)).unwrap();
        let memory = answer.memory;
        assert_eq!((answer.len, answer.id, answer.error), (1000, 3, 0));
        let failure = answer.fill(|message| reply(message, b"ab", -libc::ENOENT)).unwrap_err();
        assert_eq!(failure.errno, libc::ENOENT);
        assert_eq!((answer.len, answer.error, answer.memory), (2, -libc::ENOENT, memory));
        // SAFETY: two bytes and the NUL, in the answer's memory.
        assert_eq!(unsafe { std::ffi::CStr::from_ptr(answer.data) }, c"ab");
        let failure = answer.fill(|_| Err(ClientError::TimedOut)).unwrap_err();
        assert_eq!((failure.errno, answer.len), (libc::ETIMEDOUT, 0));
        assert!(answer.data.is_null() && answer.memory == memory);
        answer.free();
        assert!(answer.memory.is_null());
        answer.free();
    }
}
