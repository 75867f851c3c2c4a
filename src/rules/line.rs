//! Which track crosses a line, and which only trembles on it.

use super::geometry::{Point, crossing, distance};
use super::{TRACKS_MAX, Tracked};
use crate::config::Direction;

/// What one line remembers of every track of one source.
#[derive(Debug)]
pub struct Crossings {
    /// By the track's place.
    marks: Vec<Mark>,
    /// Until when nothing is told, seconds.
    quiet_until: f64,
}

/// Where a track was last.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// Its number; 0 for a place that nobody had yet.
    track: u64,
    at: Point,
    /// It has crossed, is still near, and which way it went.
    near: Option<bool>,
    /// Meanwhile it has gone back, or back and forth and back.
    back: bool,
}

impl Crossings {
    /// The share of a box's shorter side within which it counts as still on the line: boxes tremble by a few hundredths,
    /// and what really comes back goes further.
    pub const NEAR: f64 = 0.25;

    pub fn new() -> Self {
        Self { marks: vec![Mark::default(); TRACKS_MAX], quiet_until: f64::NEG_INFINITY }
    }

    /// Where a track is now; the way that it has crossed, if it has. A crossing counts at once; until the track is
    /// further than `near` from the line it may go back and forth, and then counts once more only if it is back.
    pub fn step(&mut self, tracked: Tracked, at: Point, line: [Point; 2], near: f64) -> Option<Direction> {
        let mark = &mut self.marks[tracked.slot];
        if mark.track != tracked.id {
            *mark = Mark { track: tracked.id, at, near: None, back: false };
            return None;
        }
        let through = crossing(line, std::mem::replace(&mut mark.at, at), at);
        let away = distance(line, at) > near;
        let left = match mark.near {
            None => {
                mark.near = through.filter(|_| !away);
                mark.back = false;
                through
            }
            Some(left) => {
                mark.back ^= through.is_some();
                if away {
                    mark.near = None;
                }
                (away && mark.back).then_some(!left)
            }
        };
        left.map(|left| if left { Direction::In } else { Direction::Out })
    }

    /// Whether a crossing may be told now; if so, others may not for a while.
    pub fn may_tell(&mut self, now_s: f64, cooldown_s: f64) -> bool {
        let may = now_s >= self.quiet_until;
        if may {
            self.quiet_until = now_s + cooldown_s;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const LINE: [Point; 2] = [[100.0, 0.0], [100.0, 200.0]];
    const NEAR: f64 = 10.0;

    /// Ways of one track over its positions; `In` is rightwards of the picture's x here, as the line goes down.
    fn ways(positions: impl IntoIterator<Item = f64>) -> Vec<Direction> {
        let (mut crossings, tracked) = (Crossings::new(), Tracked { slot: 3, id: 7 });
        positions.into_iter().filter_map(|x| crossings.step(tracked, [x, 50.0], LINE, NEAR)).collect()
    }

    #[test]
    fn a_passage_counts_once_and_so_does_the_way_back() {
        use Direction::{In, Out};
        assert_eq!(ways([80.0, 95.0, 105.0, 120.0]), [In]);
        assert_eq!(ways([80.0, 120.0, 80.0, 120.0]), [In, Out, In]);
        assert_eq!(ways([80.0, 90.0, 80.0]), []);
    }

    #[test]
    fn trembling_on_the_line_counts_once() {
        use Direction::{In, Out};
        let tremble = [98.0, 101.0, 99.0, 103.0, 97.0, 102.0];
        assert_eq!(ways([80.0].into_iter().chain(tremble).chain([120.0])), [In]);
        // Back where it came from: what was told is taken back.
        assert_eq!(ways([80.0].into_iter().chain(tremble).chain([80.0])), [In, Out]);
    }

    #[test]
    fn whatever_the_way_what_is_told_is_where_it_ends() {
        let mut random = Random::new(23);
        for _ in 0..500 {
            let (mut x, end) = (60.0, if random.chance(0.5) { 50.0 } else { 150.0 });
            let walk: Vec<f64> = (0..200)
                .map(|_| {
                    x = (x + f64::from(random.uniform(-15.0, 15.0))).clamp(50.0, 150.0);
                    x
                })
                .chain([end])
                .collect();
            let told = ways([60.0].into_iter().chain(walk.iter().copied()));
            assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "twice the same way: {told:?}");
            assert_eq!(told.len() % 2 == 1, walk[200] > 100.0, "{told:?} of {walk:?}");
        }
    }

    #[test]
    fn another_track_in_the_same_place_begins_anew() {
        let mut crossings = Crossings::new();
        assert_eq!(crossings.step(Tracked { slot: 0, id: 1 }, [80.0, 50.0], LINE, NEAR), None);
        assert_eq!(crossings.step(Tracked { slot: 0, id: 2 }, [120.0, 50.0], LINE, NEAR), None);
    }
}
