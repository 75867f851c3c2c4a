//! The loop allocates nothing once it is warm: pre-processing of equal pictures, counted by the allocator itself.
//!
//! Alone in its file, because an allocator serves a whole test program. It counts a thread at a time: the test runner's
//! own thread allocates when it likes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use firstlight::frame::contrast::{Contrast, ContrastFilter};
use firstlight::frame::{Antialias, Arithmetic, Frame, Levels, Placement, Resizer, Size};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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
    let (mut out, mut little) = (vec![0.0; 3 * 160 * 160], vec![0.0; 3 * 40 * 40]);
    let (mut work, mut small) = (Frame::empty(), Frame::empty());
    // One a use, as a pipeline has them: a resizer whose sizes or arithmetic change makes new tables.
    let mut resizers = [(); 5].map(|()| Resizer::new());
    let mut antialias = Antialias::default();
    let levels = Levels::new([2, 1, 0], |_, level| level - 127.0);
    let mut filter = ContrastFilter::default();
    let mut pass = || {
        for contrast in [Contrast::Stretching, Contrast::Histogram, Contrast::Adaptive] {
            source.view().copy_to(&mut work);
            filter.apply(contrast, &mut work);
            filter.apply_in_colour(contrast, &mut work);
        }
        let [letterbox, stretch, bytes, mapped, planes] = &mut resizers;
        letterbox.letterbox_chw(work.view(), net, 114, &mut out).unwrap();
        stretch.stretch_chw(work.view(), net, Arithmetic::Float, &mut out).unwrap();
        bytes.resize(work.view(), net, &mut small).unwrap();
        mapped.place_levels(work.view(), &levels, Placement::stretch(net), 0.0, &mut out).unwrap();
        planes.stretch_planes(&out, net, Size::new(40, 40), &mut little).unwrap();
        antialias.resize(work.view(), net, &mut small).unwrap();
        levels.place(small.view(), Placement::stretch(net), [0.0; 3], &mut out).unwrap();
    };
    pass();
    let before = ALLOCATIONS.get();
    for _ in 0..10 {
        pass();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
