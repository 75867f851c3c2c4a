//! From the order of decoding to that of presentation.

use std::collections::VecDeque;

use super::Picture;

/// How long a picture waits for one that is shown before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// For files: as long as the stream may need, so that none is ever out of order.
    Exact,
    /// For cameras: as long as the stream declares; one that declares nothing is taken to send pictures in order until one
    /// comes too late, which is dropped, and then waits a picture longer.
    Live,
}

/// Pictures that wait for their turn, and those whose turn has come.
#[derive(Debug)]
pub(super) struct Reorder {
    order: Order,
    /// Pictures that may wait.
    depth: usize,
    depth_max: usize,
    declared: bool,
    /// With the picture order count that they are shown by.
    waiting: Vec<(i32, Picture)>,
    ready: VecDeque<Picture>,
    /// Count of the picture last made ready since the last key picture.
    shown: Option<i32>,
}

impl Reorder {
    pub(super) fn new(order: Order) -> Self {
        Self {
            order,
            depth: 0,
            depth_max: 0,
            declared: false,
            waiting: Vec::new(),
            ready: VecDeque::new(),
            shown: None,
        }
    }

    /// A sequence begins that declares to need `depth` pictures, and by its level may need `depth_max`.
    pub(super) fn configure(&mut self, depth: Option<usize>, depth_max: usize) {
        self.declared = depth.is_some();
        self.depth_max = depth_max;
        self.depth = match (depth, self.order) {
            (Some(depth), _) => depth,
            (None, Order::Exact) => depth_max,
            (None, Order::Live) => self.depth.min(depth_max),
        };
    }

    /// A picture with which counting starts again follows: all before it are shown before it.
    pub(super) fn restart(&mut self) {
        while self.show_first() {}
        self.shown = None;
    }

    pub(super) fn push(&mut self, count: i32, picture: Picture) {
        if self.shown.is_some_and(|shown| count < shown) {
            if self.order == Order::Live && !self.declared && self.depth < self.depth_max {
                self.depth += 1;
                return;
            }
            // The stream restarted its count without a key picture, or lied about its depth.
            self.restart();
        }
        self.waiting.push((count, picture));
        while self.waiting.len() > self.depth {
            self.show_first();
        }
    }

    pub(super) fn pop(&mut self) -> Option<Picture> {
        self.ready.pop_front()
    }

    /// Gives up what waits and what is ready.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.ready.clear();
        self.shown = None;
    }

    fn show_first(&mut self) -> bool {
        let Some(first) = (0..self.waiting.len()).min_by_key(|&index| self.waiting[index].0) else { return false };
        let (count, picture) = self.waiting.remove(first);
        self.shown = Some(count);
        self.ready.push_back(picture);
        true
    }
}
