//! The one piece of memory a plan works in: buffers whose times do not meet share a place.

/// Values of a cache line, to which every buffer is aligned.
pub const ALIGNMENT: usize = 16;

/// A buffer: how large, and from which node to which it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub volume: usize,
    pub first: usize,
    pub last: usize,
}

/// Where each buffer begins, and the volume of the whole. Greedy by size: the largest first, each at the lowest place that
/// is free during its time (Y. Pisarchyk, J. Lee, Efficient Memory Management for Deep Neural Net Inference, 2020).
pub fn plan(spans: &[Span]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(spans[index].volume));
    let mut offsets = vec![0; spans.len()];
    // What is placed, by its beginning.
    let mut placed: Vec<usize> = Vec::new();
    for index in order {
        let span = spans[index];
        let volume = span.volume.next_multiple_of(ALIGNMENT);
        let mut at = 0;
        for &other in &placed {
            let found = spans[other];
            if found.first > span.last || found.last < span.first {
                continue;
            }
            if offsets[other] >= at + volume {
                break;
            }
            at = at.max(offsets[other] + found.volume.next_multiple_of(ALIGNMENT));
        }
        offsets[index] = at;
        let position = placed.partition_point(|&other| offsets[other] <= at);
        placed.insert(position, index);
    }
    let end = (0..spans.len()).map(|index| offsets[index] + spans[index].volume.next_multiple_of(ALIGNMENT)).max();
    (offsets, end.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn buffers_that_live_at_the_same_time_never_overlap() {
        let mut random = Random::new(5);
        for _ in 0..200 {
            let spans: Vec<Span> = (0..30)
                .map(|_| {
                    let first = random.below(20);
                    Span { volume: 1 + random.below(500), first, last: first + random.below(10) }
                })
                .collect();
            let (offsets, end) = plan(&spans);
            for i in 0..spans.len() {
                assert!(offsets[i] % ALIGNMENT == 0 && offsets[i] + spans[i].volume <= end);
                for j in 0..i {
                    let (a, b) = (spans[i], spans[j]);
                    let together = a.first <= b.last && b.first <= a.last;
                    let apart = offsets[i] + a.volume <= offsets[j] || offsets[j] + b.volume <= offsets[i];
                    assert!(!together || apart, "{a:?} {b:?}");
                }
            }
        }
    }
}
