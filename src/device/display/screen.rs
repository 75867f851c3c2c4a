//! What the screen shows, at any size: the live picture with what was seen in it, how often each class was, the state and
//! the figures of the loop; and what is wrong, in letters that are read from across a room.
//!
//! May not know: where the picture goes.

use std::fmt::Write;

use super::layout::{Area, Layout, Unit};
use super::text::{cut, plain_source, uptime, wrap};
use crate::frame::draw::{Colour, draw_text, text_width};
use crate::frame::{CHANNELS, Frame, Resizer, Size};
use crate::pipeline::status::{State, Status};
use crate::sink::Glance;

const GROUND: Colour = [10, 13, 18];
const BAR: Colour = [21, 26, 34];
const LINE: Colour = [44, 52, 64];
const BRIGHT: Colour = [236, 241, 247];
const DIM: Colour = [139, 150, 165];
const BLACK: Colour = [0; CHANNELS];

/// What remains of a picture that something is written on, of 256: its shapes, and no contrast with letters.
const BEHIND: u16 = 56;
/// What remains of the picture below the reasons while frames flow.
const BEHIND_BANNER: u16 = 40;

/// Sizes of letters for what is wrong, tenths of a unit, largest first: the largest that all fit in is taken.
const REASON_TENTHS: [usize; 5] = [26, 22, 18, 15, 12];

fn colour_of(state: State) -> Colour {
    match state {
        State::Starting => [98, 174, 255],
        State::Running => [74, 208, 116],
        State::Degraded => [255, 178, 44],
        State::Failed => [255, 92, 84],
    }
}

/// The picture of a screen, kept so that drawing the next one allocates next to nothing.
#[derive(Debug)]
pub struct Screen {
    frame: Frame,
    /// The live picture at the size it is shown in.
    picture: Frame,
    resizer: Resizer,
    text: String,
}

impl Screen {
    /// A dark screen.
    #[must_use]
    pub fn new(size: Size) -> Self {
        let frame = Frame::new(size.width, size.height);
        Self { frame, picture: Frame::empty(), resizer: Resizer::new(), text: String::new() }
    }

    /// Draws everything anew. `flowing` says whether the picture is live.
    pub fn draw(&mut self, status: &Status, flowing: bool, glance: &mut Glance) -> &Frame {
        let seen = glance.frame().size();
        let live = flowing && seen.width > 0 && matches!(status.state, State::Running | State::Degraded);
        let layout = Layout::of(self.frame.size(), seen, live);
        self.fill(layout.whole, GROUND);
        self.header(&layout, status, live);
        self.show(&layout, glance);
        if live {
            if !status.reasons.is_empty() {
                self.banner(&layout, status);
            }
        } else {
            if seen.width > 0 {
                self.darken(layout.picture, BEHIND);
            }
            self.message(&layout, status);
        }
        match layout.panel {
            Some(panel) => self.panel(panel, layout.unit, status, glance),
            None => self.footer(&layout, status, live, glance),
        }
        &self.frame
    }

    fn fill(&mut self, area: Area, colour: Colour) {
        let Area { left, top, .. } = area;
        let (right, bottom) = (area.right().min(self.frame.width()), area.bottom().min(self.frame.height()));
        for y in top..bottom {
            if left < right {
                self.frame.row_mut(y)[left * CHANNELS..right * CHANNELS].as_chunks_mut::<CHANNELS>().0.fill(colour);
            }
        }
    }

    /// Leaves `share` of 256 of what is there.
    fn darken(&mut self, area: Area, share: u16) {
        for y in area.top..area.bottom().min(self.frame.height()) {
            let right = area.right().min(self.frame.width());
            for level in &mut self.frame.row_mut(y)[area.left * CHANNELS..right * CHANNELS] {
                *level = (u16::from(*level) * share).to_be_bytes()[0];
            }
        }
    }

    /// A filled area with round corners.
    fn pill(&mut self, area: Area, colour: Colour) {
        let radius = area.height.min(area.width) / 3;
        for y in 0..area.height {
            // How far this row lies within a corner, and how much the circle leaves of it.
            let depth = radius.saturating_sub(y.min(area.height - 1 - y));
            let inset = radius - (radius * radius - depth * depth).isqrt();
            let row = Area { left: area.left + inset, top: area.top + y, width: area.width - 2 * inset, height: 1 };
            self.fill(row, colour);
        }
    }

    fn write(&mut self, place: [usize; 2], text: &str, height: usize, colour: Colour) -> usize {
        draw_text(&mut self.frame, place, text, height, colour)
    }

    /// Writes a text that ends before `right`, and returns where it begins.
    fn write_before(&mut self, right: usize, top: usize, text: &str, height: usize, colour: Colour) -> usize {
        let left = right.saturating_sub(text_width(text.chars().count(), height));
        self.write([left, top], text, height, colour);
        left
    }

    /// State, model and rate.
    fn header(&mut self, layout: &Layout, status: &Status, live: bool) {
        let (area, unit) = (layout.header, layout.unit);
        self.fill(area, BAR);
        self.fill(Area { top: area.bottom() - 1, height: 1, ..area }, LINE);
        let (gap, word) = (unit.tenths(6), status.state.as_str().to_uppercase());
        let (large, small) = (unit.tenths(13), unit.tenths(12));
        let height = unit.tenths(18);
        let (top, width) = (area.middle(height), text_width(word.len(), large) + 2 * gap);
        self.pill(Area { left: gap, top, width, height }, colour_of(status.state));
        self.write([2 * gap, area.middle(large)], &word, large, BLACK);
        let mut right = area.right() - gap;
        if live {
            right = self.write_before(right, area.middle(small) + unit.tenths(2), "fps", small, DIM) - gap / 2;
            let rate = self.said(format_args!("{:.1}", status.flow.fps));
            right = self.write_before(right, area.middle(unit.tenths(20)), &rate, unit.tenths(20), BRIGHT) - gap;
            self.text = rate;
        }
        let left = width + 2 * gap;
        let columns = right.saturating_sub(left) / text_width(1, small).max(1);
        self.write([left, area.middle(small)], cut(&status.model.id, columns), small, BRIGHT);
    }

    /// What is written, in memory that is given back through `self.text`.
    fn said(&mut self, words: std::fmt::Arguments<'_>) -> String {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // A String takes all that is written.
        let _ = text.write_fmt(words);
        text
    }

    /// The picture with what was seen in it; nothing before the first.
    fn show(&mut self, layout: &Layout, glance: &mut Glance) {
        let Area { left, top, width, height } = layout.picture;
        let (seen, size) = (glance.frame(), Size::new(width, height));
        if seen.width() == 0 || width == 0 || height == 0 {
            return;
        }
        if self.resizer.resize(seen.view(), size, &mut self.picture).is_err() {
            return;
        }
        glance.draw(&mut self.picture);
        for y in 0..height {
            self.frame.row_mut(top + y)[left * CHANNELS..][..width * CHANNELS].copy_from_slice(self.picture.row(y));
        }
    }

    /// What is wrong while frames flow, on the lower edge of the picture.
    fn banner(&mut self, layout: &Layout, status: &Status) {
        let (area, unit) = (layout.view, layout.unit);
        let height = unit.tenths(15);
        let edge = unit.tenths(4);
        let columns = area.width.saturating_sub(4 * edge) / text_width(1, height).max(1);
        let line = height + height / 8;
        // At most half of the picture: it is live.
        let lines = (area.height / 2 / line).max(1);
        let wanted = status.reasons.iter().map(|reason| wrap(reason, columns).count()).sum::<usize>();
        let tall = wanted.min(lines) * line + 2 * edge;
        let area = Area { top: area.bottom().saturating_sub(tall), height: tall, ..area };
        self.darken(area, BEHIND_BANNER);
        let colour = colour_of(status.state);
        self.fill(Area { width: edge, ..area }, colour);
        let mut top = area.top + edge;
        for reason in status.reasons.iter() {
            for (number, row) in wrap(reason, columns).enumerate() {
                if top + height > area.bottom() {
                    return;
                }
                let left = area.left + 3 * edge;
                let heading = if number == 0 { row.find(": ").map_or(0, |at| at + 1) } else { 0 };
                let left = self.write([left, top], &row[..heading], height, colour);
                self.write([left, top], &row[heading..], height, BRIGHT);
                top += line;
            }
        }
    }

    /// Why there is no live picture, as large as it fits.
    fn message(&mut self, layout: &Layout, status: &Status) {
        let (area, unit) = (layout.view.within(layout.unit.tenths(14)), layout.unit);
        let colour = colour_of(status.state);
        if status.reasons.is_empty() {
            let words = if status.model.id.is_empty() { "loading the model" } else { "waiting for the first picture" };
            let [large, small] = [unit.tenths(36), unit.tenths(16)];
            let top = area.middle(large + small * 3 / 2);
            self.centred(area, top, "Starting", large, colour);
            self.centred(area, top + large + small / 2, words, small, BRIGHT);
            return;
        }
        let fits = |tenths: &usize| reasons_height(status, area.width, unit.tenths(*tenths)) <= area.height;
        let tenths = REASON_TENTHS.into_iter().find(fits).unwrap_or(REASON_TENTHS[REASON_TENTHS.len() - 1]);
        let height = unit.tenths(tenths);
        let mut top = area.middle(reasons_height(status, area.width, height).min(area.height));
        for reason in status.reasons.iter() {
            let (heading, body) = reason.split_once(": ").unwrap_or(("", reason));
            if !heading.is_empty() {
                let word = heading.to_uppercase();
                self.write([area.left, top], &word, heading_height(height), colour);
                top += heading_height(height) * 5 / 4;
            }
            for line in wrap(body, area.width / text_width(1, height).max(1)) {
                if top + height > area.bottom() {
                    return;
                }
                self.write([area.left, top], line, height, BRIGHT);
                top += height + height / 8;
            }
            top += height * 2 / 3;
        }
    }

    fn centred(&mut self, area: Area, top: usize, text: &str, height: usize, colour: Colour) {
        let width = text_width(text.chars().count(), height);
        let left = area.left + area.width.saturating_sub(width) / 2;
        self.write([left, top], text, height, colour);
    }

    /// How often each class is seen, and below it the figures.
    fn panel(&mut self, area: Area, unit: Unit, status: &Status, glance: &mut Glance) {
        let area = area.within(unit.tenths(8));
        let facts = self.facts(area, unit, status);
        self.counts(Area { height: facts.saturating_sub(area.top), ..area }, unit, glance);
    }

    /// Every class where there is room for all, else those that are seen.
    fn counts(&mut self, area: Area, unit: Unit, glance: &mut Glance) {
        let [row, name, number] = [unit.tenths(24), unit.tenths(12), unit.tenths(20)];
        let rows = area.height / row.max(1);
        let all = glance.counts().count() <= rows;
        let bar = unit.tenths(4);
        for (index, seen) in glance.counts().filter(|seen| all || seen.count > 0).take(rows).enumerate() {
            let top = area.top + index * row;
            let line = Area { top, height: row, ..area };
            let (bright, colour) = if seen.count > 0 { (BRIGHT, seen.colour) } else { (DIM, LINE) };
            self.pill(Area { left: area.left, top: line.middle(number), width: bar, height: number }, colour);
            let count = self.said(format_args!("{}", seen.count));
            let right = self.write_before(area.right(), line.middle(number), &count, number, bright);
            self.text = count;
            let left = area.left + 2 * bar;
            let columns = right.saturating_sub(left) / text_width(1, name).max(1);
            self.write([left, line.middle(name)], cut(seen.class, columns), name, bright);
        }
    }

    /// Names and values, a line each, at the lower edge; returns where they begin.
    fn facts(&mut self, area: Area, unit: Unit, status: &Status) -> usize {
        let height = unit.tenths(9);
        let line = height + height / 3;
        let columns = area.width / text_width(1, height).max(1);
        let mut bottom = area.bottom();
        for fact in Fact::ALL.into_iter().rev() {
            let mut value = std::mem::take(&mut self.text);
            value.clear();
            fact.write(status, &mut value);
            if !value.is_empty() && bottom >= area.top + line {
                bottom -= line;
                self.write([area.left, bottom], fact.name(), height, DIM);
                let room = columns.saturating_sub(fact.name().len() + 1);
                self.write_before(area.right(), bottom, cut(&value, room), height, BRIGHT);
            }
            self.text = value;
        }
        let above = bottom.saturating_sub(line / 2);
        self.fill(Area { top: above, height: 1, ..area }, LINE);
        above
    }

    /// The same in one line, for screens that the picture leaves no room for more.
    fn footer(&mut self, layout: &Layout, status: &Status, live: bool, glance: &mut Glance) {
        let (area, unit) = (layout.footer, layout.unit);
        self.fill(area, BAR);
        self.fill(Area { height: 1, ..area }, LINE);
        let (gap, height) = (unit.tenths(6), unit.tenths(10));
        let top = area.middle(height);
        let mut left = gap;
        for seen in glance.counts().filter(|seen| live && seen.count > 0) {
            let words = self.said(format_args!("{} {}", seen.class, seen.count));
            let width = text_width(words.chars().count(), height) + 2 * gap;
            if left + width < area.right() * 2 / 3 {
                self.pill(Area { left, top, width: gap / 2, height }, seen.colour);
                left = self.write([left + gap, top], &words, height, BRIGHT) + gap;
            }
            self.text = words;
        }
        let mut right = area.right() - gap;
        // Without their names numbers of frames say nothing.
        for fact in Fact::ALL.into_iter().rev().filter(|&fact| fact != Fact::Frames) {
            let mut value = std::mem::take(&mut self.text);
            value.clear();
            fact.write(status, &mut value);
            let width = text_width(value.chars().count(), height) + 2 * gap;
            if !value.is_empty() && left + width < right {
                right = self.write_before(right, top, &value, height, DIM) - 2 * gap;
            }
            self.text = value;
        }
    }
}

/// Height of the word above a reason.
fn heading_height(height: usize) -> usize {
    height * 3 / 4
}

/// Height of all reasons written with letters of `height`.
fn reasons_height(status: &Status, width: usize, height: usize) -> usize {
    let columns = width / text_width(1, height).max(1);
    let of = |reason: &str| {
        let (heading, body) = reason.split_once(": ").unwrap_or(("", reason));
        let above = if heading.is_empty() { 0 } else { heading_height(height) * 5 / 4 };
        above + wrap(body, columns).count() * (height + height / 8) + height * 2 / 3
    };
    status.reasons.iter().map(|reason| of(reason)).sum::<usize>().saturating_sub(height * 2 / 3)
}

/// A figure beside the picture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fact {
    Source,
    Engine,
    Latency,
    Frames,
    Temperature,
    Uptime,
}

impl Fact {
    /// In the order of the lines; a line that is too short for all keeps the last.
    const ALL: [Self; 6] = [Self::Engine, Self::Frames, Self::Latency, Self::Temperature, Self::Source, Self::Uptime];

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Engine => "engine",
            Self::Latency => "latency",
            Self::Frames => "frames",
            Self::Temperature => "board",
            Self::Uptime => "up",
        }
    }

    /// Adds its value; nothing while there is none.
    fn write(self, status: &Status, text: &mut String) {
        // A String takes all that is written.
        let _ = match self {
            Self::Source => {
                status.sources.first().map_or(Ok(()), |first| text.write_str(plain_source(&first.uri))).and_then(|()| {
                    match status.sources.len() {
                        0 | 1 => Ok(()),
                        several => write!(text, " and {} more", several - 1),
                    }
                })
            }
            Self::Engine if status.engine.name.is_empty() => Ok(()),
            Self::Engine => write!(text, "{} {}", status.engine.name, status.engine.precision),
            Self::Latency | Self::Frames if status.flow.frames == 0 => Ok(()),
            Self::Latency => write!(text, "{:.0} ms", status.flow.latency_ms.p50),
            Self::Frames => write!(text, "{}", status.flow.frames),
            Self::Temperature => {
                status.board.temperature_c.map_or(Ok(()), |celsius| write!(text, "{celsius:.0} \u{b0}C"))
            }
            Self::Uptime => uptime(status.boot.uptime_s, text),
        };
    }
}
