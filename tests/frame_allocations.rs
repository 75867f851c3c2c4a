//! The loop allocates nothing once it is warm: pre-processing of equal pictures, counted by the allocator itself.
//!
//! Alone in its file, because an allocator serves a whole test program and other tests would be counted too.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use firstlight::frame::contrast::{Contrast, ContrastFilter};
use firstlight::frame::{Arithmetic, Frame, Resizer, Size};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn warm_preprocessing_allocates_nothing() {
    let source = Frame::new(320, 180);
    let net = Size::new(160, 160);
    let mut out = vec![0.0; 3 * 160 * 160];
    let (mut work, mut small) = (Frame::empty(), Frame::empty());
    // One a use, as a pipeline has them: a resizer whose sizes or arithmetic change makes new tables.
    let mut resizers = [(); 3].map(|()| Resizer::new());
    let mut filter = ContrastFilter::default();
    let mut pass = || {
        for contrast in [Contrast::Stretching, Contrast::Histogram, Contrast::Adaptive] {
            source.view().copy_to(&mut work);
            filter.apply(contrast, &mut work);
        }
        let [letterbox, stretch, bytes] = &mut resizers;
        letterbox.letterbox_chw(work.view(), net, 114, &mut out).unwrap();
        stretch.stretch_chw(work.view(), net, Arithmetic::Float, &mut out).unwrap();
        bytes.resize(work.view(), net, &mut small).unwrap();
    };
    pass();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10 {
        pass();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
}
