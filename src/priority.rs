//! Who gives way when the cores are busy: whatever is not the loop.
//!
//! May not know: whose thread it is.

/// Of threads that show or keep what the loop has seen. A tenth of a busy core remains to it, so that
/// pictures still come, and none costs an answer.
pub const VIEWER_NICE: i32 = 10;

/// Lowers the priority of the calling thread, and of threads that it will start. Best effort: a system that does not let
/// us is one where nothing gives way.
pub fn give_way(nice: i32) {
    // SAFETY: no pointers; on Linux, process 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
